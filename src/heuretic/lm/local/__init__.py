"""Language models from weights on this machine: inspect-ai's provider `heuretic`, without a server or a key.

`provider` is what inspect-ai calls; `engine` lets many requests share the steps of one model; `decoder` computes a step;
`draws` picks tokens; `chat` writes messages out as a prompt; `files` reads weights, and refuses broken ones.
"""
