"""What a reader does in a lesson: a guess before a result, and a function to write.

Contract: neither ever stops a notebook. A guess may be left None; a function that is not written
yet, or wrong, is told about and replaced by the solution, so that the lesson goes on.
"""

from collections.abc import Callable


def show_guess(guess: float | None, result: float, what: str) -> None:
    """Prints a guess beside the result.

    >>> show_guess(0.7, 0.79, "accuracy at a rate of 1e-3")
    accuracy at a rate of 1e-3: 0.790. You guessed 0.700, which is 0.090 too low.
    >>> show_guess(None, 0.79, "accuracy at a rate of 1e-3")
    accuracy at a rate of 1e-3: 0.790. (No guess was made.)
    """
    shown = _write_number
    line = f"{what}: {shown(result)}."
    if guess is None:
        print(f"{line} (No guess was made.)")
        return
    distance = guess - result
    if abs(distance) < 0.0005:
        print(f"{line} You guessed exactly that.")
        return
    direction = "high" if distance > 0 else "low"
    print(f"{line} You guessed {shown(guess)}, which is {shown(abs(distance))} too {direction}.")


def _write_number(value: float) -> str:
    """Shares with three digits, counts as they are."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def show_order(guess: list[str] | None, order: list[str]) -> None:
    """Prints a guessed order of systems, best first, beside the measured one.

    >>> show_order(["b", "a"], ["a", "b"])
    measured:  a > b
    you said:  b > a
    """
    print("measured: ", " > ".join(order))
    if guess is None:
        print("(No guess was made.)")
    else:
        print("you said: ", " > ".join(guess))


def use_solution_until_right(
    attempt: Callable, solution: Callable, check: Callable[[Callable], str]
) -> Callable:
    """`attempt` if it passes, else `solution`; prints which, and why.

    check: gets a function and returns "" if it is right, else what is wrong and the likely mistake.
    An attempt that returns None counts as not written yet, and one that raises is wrong.

    >>> def check(double):
    ...     return "" if double(3) == 6 else f"3 became {double(3)}, not 6. Did you square it?"
    >>> double = use_solution_until_right(lambda x: x**2, lambda x: 2 * x, check)
    Not yet: 3 became 9, not 6. Did you square it?
    The lesson goes on with the solution.
    >>> double(4)
    8
    """
    if getattr(attempt, "is_solution", False):  # the cell was run again
        print("Still the course's solution. Write yours in the cell above, and run both.")
        return attempt
    solution.is_solution = True
    try:
        problem = check(attempt)
    except NotImplementedError:
        print("Not written yet. The lesson goes on with the solution.")
        return solution
    except Exception as error:  # whatever a reader's code may raise
        problem = f"{type(error).__name__}: {error}"
    if problem:
        print(f"Not yet: {problem}")
        print("The lesson goes on with the solution.")
        return solution
    print("Right. From here on the lesson uses your function.")
    return attempt
