"""Language models from weights on this machine: inspect-ai's provider `heuretic`, without a server or a key.

`provider` is what inspect-ai calls; `engine` lets many requests share the steps of one model; `decoder` computes a step;
`draws` picks tokens; `chat` writes messages out as a prompt; `files` reads weights, and refuses broken ones.

Why GGUF files are unpacked into torch, and llama.cpp is not used (`benchmarks/local_models.py`, SmolLM2-135M Q4_1, one thread
of a Xeon with AMX, tokens per CPU second): with 64 questions at once 426 here in bfloat16, 362 by `generate` of transformers
in bfloat16, 190 in float32, 84 by llama.cpp in one batch; with eight worked examples before each of 8 questions 55, 21, 11
and 6 (22 by llama-cpp-python, one by one); prompts 1,800 tokens, against 1,500, 500 and 180. llama.cpp is faster for one
question alone (46 against 19), since it reads 4-bit weights. It does not agree better: logits of the first token are 0.14 from
those of transformers in float32 in the mean (here 0.09), 29% of greedy texts of 48 tokens are the same (here 48%). Its repacked
weights for AMX crashed the process, so it ran without; and it must be built with a C++ compiler.

What rounding does: bfloat16 rounds differently for different numbers of sequences, and where two tokens are nearly equally
probable the greedy text then turns: 75% of texts of 48 tokens were the same alone and among 64. With `dtype="float32"` all were,
and all were those of transformers; it takes twice the time and memory. Drawn samples have each their own stream of numbers,
and depend on what is computed beside them only in the same way.
"""
