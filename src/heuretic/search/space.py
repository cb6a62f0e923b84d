"""`Space`: a program with open choices, compiled to flat genomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Any

from heuretic.search.choices import Choice, Number, OneOf, Permutation, Repeat, SomeOf, Text
from heuretic.search.decisions import Categorical, Decision, Genes, Interval, Length, Order, Subset, Writing
from heuretic.symbolic import Call, FrozenDict, Path
from heuretic.symbolic.display import leaf, text, title
from heuretic.symbolic.errors import Key, brief
from heuretic.symbolic.nodes import run_post_init
from heuretic.symbolic.values import SCALARS, Node, children, freeze, inner, same

Genome = tuple[int | float, ...]
Decoder = Callable[[Genome], Any]


class InfeasibleError(ValueError):
    """No program within the limits was found, or a choice leads to a combination that the program refuses."""


class Space:
    """All the programs that a program with open choices can become.

    A genome is a flat tuple of numbers, one run per decision: the number of the candidate (`one_of`), the value
    (`number`), candidate numbers (`some_of`, `permutation`), a count (`repeat`), code points (`text`). Choices inside a candidate that was
    not taken keep their default, so equal programs have equal genomes.

    Args:
        program: The program; one without choices is a space of size 1.
        feasible: A predicate on complete programs. `sample`, `mutate`, `recombine` and `neighbours` return feasible
            genomes only; programs whose own `__post_init__` refuses a combination are infeasible too.
        violation: How far a program is from being feasible, 0 if it is. With it, genomes that are not feasible are
            mended by small changes when drawing anew is hopeless; then draws are no longer uniform.

    Attributes:
        decisions: One for each choice, those inside a candidate after it. paths: Where they stand in the program.
        offsets: Where each one's genes begin in a genome; `width` is how many genes there are in all.
        parents: For each decision the one it is inside of and the branch of that in which it applies; None at the top.
        checked: Whether there are infeasible genomes, as far as can be told without looking at any.
    """

    #: Draws before `sample` gives up (or, with `violation`, mends what it draws), tries of `mutate` and `recombine`
    #: before they mend or fall back to `sample`, and changes tried to mend a genome.
    DRAWS, TRIES, CHANGES = 10_000, 100, 2_000

    def __init__(
        self,
        program: Any,
        feasible: Callable[[Any], bool] | None = None,
        violation: Callable[[Any], float] | None = None,
    ) -> None:
        self.program = freeze(program)
        self.feasible = feasible
        self.violation = violation
        self.decisions: list[Decision] = []
        self.paths: list[Path] = []
        self.offsets: list[int] = []
        self.parents: list[tuple[int, int] | None] = []
        self._compiled: dict[tuple[Key, ...], int] = {}
        decoder = self._compile(self.program, (), None)
        self._decoder: Decoder = decoder if decoder is not None else lambda _: self.program
        self.width = sum(d.width for d in self.decisions)
        self._free = all(parent is None for parent in self.parents)
        self._mutable = [i for i, d in enumerate(self.decisions) if next(d.neighbours(d.default()), None) is not None]
        self.checked = feasible is not None or _has_post_init(self.program)
        self._last: tuple[Genome, Any] | None = None

    # -- compiling ----------------------------------------------------------------------------------------------

    def _add(self, decision: Decision, at: tuple[Key, ...], parent: tuple[int, int] | None) -> tuple[int, int]:
        index = len(self.decisions)
        self.offsets.append(self.offsets[-1] + self.decisions[-1].width if index else 0)
        self.decisions.append(decision)
        self.paths.append(Path(at))
        self.parents.append(parent)
        self._compiled[at] = index
        return index, self.offsets[index]

    def _compile(self, value: Any, at: tuple[Key, ...], parent: tuple[int, int] | None) -> Decoder | None:
        """Return a function from genome to value, or None if there is nothing open in `value`."""
        if isinstance(value, Choice):
            return self._compile_choice(value, at, parent)
        parts: list[tuple[Key, Decoder]] = []
        for key, child in inner(value):
            decoder = self._compile(child, (*at, key), parent)
            if decoder is not None:
                parts.append((key, decoder))
        return _rebuilder(value, parts) if parts else None

    def _compile_choice(self, choice: Choice, at: tuple[Key, ...], parent: tuple[int, int] | None) -> Decoder:
        if isinstance(choice, Number):
            _, i = self._add(Interval(choice.lo, choice.hi, choice.log, choice.step, choice.whole), at, parent)
            return lambda genome: genome[i]
        if isinstance(choice, Text):
            writing = Writing(choice.initial, choice.longest)
            _, i = self._add(writing, at, parent)
            return lambda genome: writing.text(genome[i : i + writing.width])
        if isinstance(choice, OneOf):
            index, i = self._add(Categorical(len(choice.candidates)), at, parent)
            candidates = self._branches(choice.candidates, (*at, "candidates"), index)
            constants = [c(()) for c, _ in candidates] if not any(is_open for _, is_open in candidates) else None
            if constants is not None:
                return lambda genome: constants[genome[i]]  # type: ignore[index]
            return lambda genome: candidates[genome[i]][0](genome)  # type: ignore[index]
        if isinstance(choice, Repeat):
            index, i = self._add(Length(choice.at_least, choice.at_most), at, parent)
            copies = self._branches((choice.item,) * choice.at_most, (*at, "item"), index)
            return lambda genome: tuple([copies[k][0](genome) for k in range(genome[i])])  # type: ignore[arg-type]
        if isinstance(choice, SomeOf):
            decision: Decision = Subset(len(choice.candidates), choice.at_least, choice.at_most, choice.ordered)
            items, name = choice.candidates, "candidates"
        elif isinstance(choice, Permutation):
            decision = Order(len(choice.items))
            items, name = choice.items, "items"
        else:
            raise TypeError(f"unknown kind of choice: {type(choice).__name__}")
        index, i = self._add(decision, at, parent)
        j = i + decision.width
        branches = self._branches(items, (*at, name), index)
        return lambda genome: tuple([branches[k][0](genome) for k in genome[i:j] if k >= 0])  # type: ignore[index]

    def _branches(self, items: tuple[Any, ...], at: tuple[Key, ...], index: int) -> list[tuple[Decoder, bool]]:
        result: list[tuple[Decoder, bool]] = []
        for k, item in enumerate(items):
            decoder = self._compile(item, (*at, k), (index, k))
            result.append((decoder, True) if decoder is not None else (_constant(item), False))
        return result

    # -- looking ------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int | float:
        """How many genomes there are, exactly; infinite if a float has no step or a text is open. Ignores feasibility."""
        return _size(self.program)

    def __len__(self) -> int:
        return len(self.decisions)

    def __repr__(self) -> str:
        size = self.size
        shown = (
            f"{size:,}"
            if isinstance(size, int) and size < 10**15
            else f"{float(size):.3g}"
            if size < 1e300
            else "inf"
            if size == math.inf
            else "over 1e300"
        )
        return f"Space({len(self.decisions)} choices, {self.width} genes, size {shown})"

    def genes(self, genome: Genome, index: int) -> Genes:
        """Return the genes of one decision."""
        start = self.offsets[index]
        return genome[start : start + self.decisions[index].width]

    def active(self, genome: Genome) -> list[bool]:
        """Return for each decision whether it applies, given the decisions around it."""
        result: list[bool] = []
        for parent in self.parents:
            if parent is None:
                result.append(True)
            else:
                index, branch = parent
                result.append(result[index] and self.decisions[index].selects(self.genes(genome, index), branch))
        return result

    def chosen(self, genome: Genome) -> dict[str, Any]:
        """Return the decisions that apply, by path, as short values a person can read (for tables and plots)."""
        result: dict[str, Any] = {}
        for index, applies in enumerate(self.active(genome)):
            if applies:
                result[str(self.paths[index]) or "program"] = self._shown(index, self.genes(genome, index))
        return result

    def _shown(self, index: int, genes: Genes) -> Any:
        decision = self.decisions[index]
        if isinstance(decision, Interval | Length):
            return genes[0]
        if isinstance(decision, Writing):
            return decision.text(genes)
        choice: Any = _choice_at(self.program, self.paths[index])
        items = choice.candidates if isinstance(choice, OneOf | SomeOf) else choice.items
        shown = [items[int(g)] for g in genes if g >= 0]
        plain = [s if s is None or isinstance(s, int | float | str) else _label(s, items) for s in shown]
        return plain[0] if isinstance(choice, OneOf) else " ".join(map(str, plain))

    def contains(self, genome: Genome) -> bool:
        """Whether `genome` belongs to this space and is in canonical form (feasibility aside)."""
        if len(genome) != self.width:
            return False
        for index, applies in enumerate(self.active(genome)):
            genes = self.genes(genome, index)
            if not (self.decisions[index].contains(genes) if applies else genes == self.decisions[index].default()):
                return False
        return True

    def is_feasible(self, genome: Genome) -> bool:
        """Whether the genome decodes to a program that its own checks and the predicate accept."""
        try:
            program = self.decode(genome)
        except InfeasibleError:
            return False
        return self.feasible is None or bool(self.feasible(program))

    # -- moving -------------------------------------------------------------------------------------------------

    def decode(self, genome: Genome) -> Any:
        """Return the complete program for a genome. Parts without choices are shared with the open program.

        Raises: InfeasibleError if the program's own `__post_init__` refuses the combination.
        """
        if self._last is not None and self._last[0] == genome:
            return self._last[1]
        try:
            program = self._decoder(genome)
        except ValueError as error:
            raise InfeasibleError(str(error)) from error
        self._last = (genome, program)
        return program

    def encode(self, program: Any) -> Genome:
        """Return the genome of a complete program: `decode(encode(p)) == p`.

        Raises: ValueError naming the place where the program is not in this space.
        """
        genes: dict[int, Genes] = {}
        self._match(self.program, freeze(program), (), (), genes)
        return tuple(g for i, d in enumerate(self.decisions) for g in genes.get(i, d.default()))

    def default(self) -> Genome:
        """Return the starting genome: first candidates, the middle of numbers, as few copies as allowed."""
        return tuple(g for d in self.decisions for g in d.default())

    def sample(self, rng: Random) -> Genome:
        """Draw a feasible genome, every choice uniform among its candidates as long as drawing anew succeeds.

        Raises: InfeasibleError if no draw was feasible.
        """
        draws = self.DRAWS if self.checked and self.violation is None else self.TRIES if self.checked else 1
        for _ in range(draws):
            genome = self._complete({}, rng)
            if not self.checked or self.is_feasible(genome):
                return genome
        for _ in range(10 if self.violation is not None else 0):
            mended = self._mended(self._complete({}, rng), rng)
            if mended is not None:
                return mended
        how = f"in {draws} draws" if self.violation is None else f"in {draws} draws, nor by mending ten"
        raise InfeasibleError(
            f"no program within the limits found {how}, from {self!r}. Widen the space or relax the limits"
        )

    def _mended(self, genome: Genome, rng: Random) -> Genome | None:
        """Return a feasible genome near an infeasible one, by changes that bring it no further away; None if stuck."""
        distance = self._distance(genome)
        for _ in range(self.CHANGES if self._mutable else 0):
            if distance == 0:
                return genome
            changed = self._mutated(genome, rng)
            other = self._distance(changed)
            if other <= distance:
                genome, distance = changed, other
        return genome if distance == 0 else None

    def _distance(self, genome: Genome) -> float:
        try:
            program = self.decode(genome)
        except InfeasibleError:
            return math.inf
        if self.feasible is None or self.feasible(program):
            return 0.0
        return (self.violation(program) if self.violation is not None else 0.0) or math.inf

    def mutate(self, genome: Genome, rng: Random) -> Genome:
        """Return a feasible genome that differs in one decision (and in those that only apply because of it)."""
        if not self._mutable:
            return genome
        mutant = genome
        for _ in range(self.TRIES if self.checked else 1):
            mutant = self._mutated(genome, rng)
            if not self.checked or self.is_feasible(mutant):
                return mutant
        mended = None if self.violation is None else self._mended(mutant, rng)
        return self.sample(rng) if mended is None or mended == genome else mended

    def _mutated(self, genome: Genome, rng: Random) -> Genome:
        if self._free:
            index = self._mutable[int(rng.random() * len(self._mutable))]
        else:
            applies = self.active(genome)
            options = [i for i in self._mutable if applies[i]]
            if not options:
                return genome
            index = options[int(rng.random() * len(options))]
        start = self.offsets[index]
        end = start + self.decisions[index].width
        mutant = genome[:start] + self.decisions[index].mutate(genome[start:end], rng) + genome[end:]
        if self._free:
            return mutant
        before = self.active(genome)
        return self._complete({i: self.genes(mutant, i) for i, was in enumerate(before) if was}, rng)

    def recombine(self, a: Genome, b: Genome, rng: Random) -> Genome:
        """Return a feasible genome that takes each decision from one of two parents at random."""
        on_a, on_b = self.active(a), self.active(b)
        for _ in range(self.TRIES if self.checked else 1):
            genes: dict[int, Genes] = {}
            for i in range(len(self.decisions)):
                first, second = ((a, on_a), (b, on_b)) if rng.random() < 0.5 else ((b, on_b), (a, on_a))
                source = first if first[1][i] else second if second[1][i] else None
                if source is not None:
                    genes[i] = self.genes(source[0], i)
            child = self._complete(genes, rng)
            if not self.checked or self.is_feasible(child):
                return child
        return self.mutate(a, rng)

    def neighbours(self, genome: Genome) -> Iterator[Genome]:
        """Yield the feasible genomes one smallest change away; choices that come to apply take their default."""
        for index, applies in enumerate(self.active(genome)):
            if not applies:
                continue
            start = self.offsets[index]
            end = start + self.decisions[index].width
            for genes in self.decisions[index].neighbours(genome[start:end]):
                neighbour = self._complete({}, None, genome[:start] + genes + genome[end:])
                if not self.checked or self.is_feasible(neighbour):
                    yield neighbour

    def genomes(self) -> Iterator[Genome]:
        """Yield all feasible genomes, the first decision varying slowest.

        Raises: ValueError if there are infinitely many.
        """

        def from_here(index: int, applies: list[bool], out: Genome) -> Iterator[Genome]:
            if index == len(self.decisions):
                yield out
                return
            decision, parent = self.decisions[index], self.parents[index]
            on = True
            if parent is not None:
                above, branch = parent
                on = applies[above] and self.decisions[above].selects(self.genes(out, above), branch)
            for genes in decision.every() if on else (decision.default(),):
                yield from from_here(index + 1, [*applies, on], out + genes)

        return filter(self.is_feasible, from_here(0, [], ())) if self.checked else from_here(0, [], ())

    def _complete(self, genes: dict[int, Genes], rng: Random | None, base: Genome | None = None) -> Genome:
        """Assemble a canonical genome: given genes (or those of `base`) where they apply, draws for the rest."""
        out: list[int | float] = []
        applies: list[bool] = []
        for index, (decision, parent) in enumerate(zip(self.decisions, self.parents, strict=True)):
            if parent is None:
                on = True
            else:
                above, branch = parent
                start = self.offsets[above]
                on = applies[above] and self.decisions[above].selects(
                    tuple(out[start : start + self.decisions[above].width]), branch
                )
            applies.append(on)
            if not on:
                out.extend(decision.default())
            elif base is not None:
                out.extend(self.genes(base, index))
            else:
                given = genes.get(index)
                out.extend(given if given is not None else decision.sample(rng))  # type: ignore[arg-type]
        return tuple(out)

    # -- matching -----------------------------------------------------------------------------------------------

    def _match(
        self, template: Any, value: Any, at: tuple[Key, ...], where: tuple[Key, ...], genes: dict[int, Genes]
    ) -> None:
        """Fill `genes` so that the template at space path `at` decodes to `value`, which stands at path `where`."""
        if isinstance(template, Choice):
            return self._match_choice(template, value, at, where, genes)
        inside = list(children(template))
        if not inside:
            if not same(template, value):
                raise _mismatch(where, template, value)
            return
        keys, other = [k for k, _ in inside], dict(children(value))
        is_alike = type(template) is type(value) and list(other) == keys
        if not is_alike or (isinstance(template, Node) and template.__head__() != value.__head__()):
            raise _mismatch(where, template, value)
        for key, child in inside:
            if child.__class__ in SCALARS and same(child, other[key]):
                continue
            self._match(child, other[key], (*at, key), (*where, key), genes)

    def _match_choice(
        self, choice: Choice, value: Any, at: tuple[Key, ...], where: tuple[Key, ...], genes: dict[int, Genes]
    ) -> None:
        index = self._compiled[at]
        decision = self.decisions[index]
        if isinstance(choice, Number):
            if not isinstance(value, int | float) or not decision.contains((value,)):
                raise _mismatch(where, choice, value)
            genes[index] = (value,)
        elif isinstance(choice, Text):
            if not isinstance(value, str) or len(value) > choice.longest:
                raise _mismatch(where, choice, value)
            assert isinstance(decision, Writing)
            genes[index] = decision.genes(value)
        elif isinstance(choice, OneOf):
            genes[index] = (self._pick(choice.candidates, value, (*at, "candidates"), where, genes, choice),)
        elif not isinstance(value, tuple):
            raise _mismatch(where, choice, value)
        elif isinstance(choice, Repeat):
            genes[index] = (len(value),)
            if not decision.contains(genes[index]):
                raise _mismatch(where, choice, value)
            for k, item in enumerate(value):
                self._match(choice.item, item, (*at, "item", k), (*where, k), genes)
        else:
            items, name = (choice.candidates, "candidates") if isinstance(choice, SomeOf) else (choice.items, "items")  # type: ignore[attr-defined]
            ascending = isinstance(choice, SomeOf) and not choice.ordered
            picked = self._assign(items, value, (*at, name), where, genes, ascending)
            genes[index] = (*picked, *(-1,) * (decision.width - len(picked)))
            if len(picked) < len(value) or not decision.contains(genes[index]):
                raise _mismatch(where, choice, value)

    def _assign(
        self, items: tuple[Any, ...], values: tuple[Any, ...], at: tuple[Key, ...], where: tuple[Key, ...],
        genes: dict[int, Genes], ascending: bool,
    ) -> list[int]:  # fmt: skip
        """Return a different item for each value that it can become (fewer if there is none), and fill in `genes`."""

        @cache
        def fit(item: int, place: int) -> dict[int, Genes] | None:
            trial: dict[int, Genes] = {}
            try:
                self._match(items[item], values[place], (*at, item), (*where, place), trial)
            except ValueError:
                return None
            return trial

        taken: dict[int, int] = {}  # item: place

        def settle(place: int, tried: set[int]) -> bool:  # an augmenting path, see bipartite matching
            for item in range(len(items)):
                if item not in tried and fit(item, place) is not None:
                    tried.add(item)
                    if item not in taken or settle(taken[item], tried):
                        taken[item] = place
                        return True
            return False

        if ascending:
            item = -1
            for place in range(len(values)):
                item = next((k for k in range(item + 1, len(items)) if fit(k, place) is not None), len(items))
                if item < len(items):
                    taken[item] = place
        else:
            for place in range(len(values)):
                if not settle(place, set()):
                    break
        for item, place in taken.items():
            genes.update(fit(item, place) or {})
        return sorted(taken, key=lambda item: taken[item])

    def _pick(
        self, items: tuple[Any, ...], value: Any, at: tuple[Key, ...], where: tuple[Key, ...],
        genes: dict[int, Genes], choice: Any,
    ) -> int:  # fmt: skip
        for k, item in enumerate(items):
            if item.__class__ in SCALARS and not same(item, value):
                continue
            trial: dict[int, Genes] = {}
            try:
                self._match(item, value, (*at, k), where, trial)
            except ValueError:
                continue
            genes.update(trial)
            return k
        raise _mismatch(where, choice, value)


def _mismatch(where: tuple[Key, ...], template: Any, value: Any) -> ValueError:
    wanted = " ".join(text(template).split())
    return ValueError(
        f"program is not in this space: {str(Path(where)) or 'the root'} must be {wanted[:100]}, got {brief(value)}"
    )


def _constant(value: Any) -> Decoder:
    return lambda _: value


def _rebuilder(value: Any, parts: list[tuple[Key, Decoder]]) -> Decoder:
    """Return a function that rebuilds `value` with its open parts filled in. Candidates were checked when placed."""
    if isinstance(value, Call):
        keys, values = value.__keys__, value.__values__
        places = [(keys.index(key), decoder) for key, decoder in parts]
        target = value.__target__

        def rebuild_call(genome: Genome) -> Any:
            new = list(values)
            for place, decoder in places:
                new[place] = decoder(genome)
            return Call(target, keys, tuple(new))

        return rebuild_call
    if isinstance(value, Node):
        cls: Any = type(value)
        draft, check = cls.__draft__, cls.__has_post_init__

        def rebuild_node(genome: Genome) -> Any:
            new = draft(value)
            for key, decoder in parts:
                setattr(new, key, decoder(genome))  # type: ignore[arg-type]
            new.__class__ = cls
            if check:
                run_post_init(new)
            return new

        return rebuild_node
    if isinstance(value, FrozenDict):
        return lambda genome: FrozenDict({**value, **{str(key): decoder(genome) for key, decoder in parts}})

    def rebuild_tuple(genome: Genome) -> Any:
        new = list(value)
        for key, decoder in parts:
            new[key] = decoder(genome)  # type: ignore[call-overload]
        return tuple(new)

    return rebuild_tuple


def _has_post_init(value: Any) -> bool:
    own = isinstance(value, Node) and not isinstance(value, Choice) and getattr(type(value), "__has_post_init__", False)
    return own or any(_has_post_init(child) for _, child in inner(value))


def _size(value: Any) -> int | float:
    try:
        return _exact_size(value)
    except OverflowError:  # infinity times, or plus, an int that no float can hold
        return math.inf


def _exact_size(value: Any) -> int | float:
    if isinstance(value, Number):
        size = Interval(value.lo, value.hi, value.log, value.step, value.whole).size()
        return size if math.isinf(size) else int(size)
    if isinstance(value, Text):
        return math.inf
    if isinstance(value, OneOf):
        return sum(_size(c) for c in value.candidates)
    if isinstance(value, Repeat):
        inner = _size(value.item)
        return sum(inner**k for k in range(value.at_least, value.at_most + 1))
    if isinstance(value, Permutation):
        return math.factorial(len(value.items)) * math.prod(_size(c) for c in value.items)
    if isinstance(value, SomeOf):
        ways: list[int | float] = [1, *[0] * value.at_most]  # ways[k]: subsets of k, inner choices counted
        for candidate in value.candidates:
            inner = _size(candidate)
            for k in range(value.at_most, 0, -1):
                ways[k] += ways[k - 1] * inner if ways[k - 1] else 0
        orders = [math.factorial(k) if value.ordered else 1 for k in range(value.at_most + 1)]
        return sum(ways[k] * orders[k] for k in range(value.at_least, value.at_most + 1))
    return math.prod(_size(child) for _, child in children(value))


def _choice_at(tree: Any, path: Path) -> Any:
    """Follow a path of the space; copies of `repeat` share their item."""
    keys = iter(path)
    for key in keys:
        if isinstance(tree, Repeat):
            tree = tree.item
            next(keys)  # the number of the copy
        else:
            tree = dict(children(tree))[key]
    return tree


def _label(value: Any, among: tuple[Any, ...]) -> str:
    """Return a short name for a candidate: its title, or more of it where several titles are alike."""
    for name in (_title, lambda v: " ".join(text(v).split())[:40]):
        names = [name(candidate) for candidate in among]
        if names.count(name(value)) == 1:
            return name(value)
    return f"{_title(value)}#{next(i for i, candidate in enumerate(among) if candidate is value)}"


def _title(value: Any) -> str:
    return title(value) if isinstance(value, Node) else leaf(value)
