"""The one error of the evaluation."""


class EvaluationInputError(ValueError):
    """Something that was given to an evaluation cannot be judged; the message says what to do."""
