"""A Reading in words, as JSON and as a row of a table."""

from collections import Counter


def as_text(reading, min_confidence=0.0, digits=None):
    """The answer in one line; marked for review as needs_review() says."""
    digits_only = all(name.isdecimal() for name in reading.probabilities)
    if reading.prediction is None:
        answer = "No digit found" if digits_only else "Nothing found"
    elif reading.text not in ("", reading.prediction):  # more than one digit, or a sign beside it
        lowest = min(digit.confidence for digit in reading.digits)
        kind = "Number" if digits_only else "Text"
        answer = f"{kind}: {reading.text}  (lowest confidence {100 * lowest:.1f}%)"
    elif reading.is_digit:
        answer = f"Prediction: {reading.prediction} with {100 * reading.confidence:.2f}% confidence"
    else:
        refused = "Not a digit (looks most like" if digits_only else "None of the classes (looks most like"
        answer = f"{refused} {reading.prediction}, {100 * reading.confidence:.0f}%)"
    left_out = len(reading.refused)
    answer += f"  ({left_out} mark{'s' if left_out > 1 else ''} not read)" if left_out else ""
    return answer + ("  (to be reviewed)" if needs_review(reading, min_confidence, digits) else "")


def needs_review(reading, min_confidence=0.0, digits=None):
    """Whether a person should look at it: a digit is less confident, something was refused, or nothing was read.

    digits: how many digits each line has; another number is to be reviewed, too. None: not known.
    """
    unsure = any(digit.confidence < min_confidence for digit in reading.digits)
    found = Counter(digit.line for digit in reading.digits).values()
    other_number = digits is not None and (not found or any(number != digits for number in found))
    return unsure or other_number or (min_confidence > 0 and bool(reading.refused or not reading.digits))


def as_json(reading):
    """A dict that json can write."""
    keys = ("prediction", "confidence", "probabilities", "is_digit", "digit_score", "box", "number", "text")
    of_digit = ("digit", "confidence", "probabilities", "digit_score", "box")
    marks = {
        name: [{key: getattr(mark, key) for key in of_digit} for mark in getattr(reading, name)]
        for name in ("digits", "refused")
    }
    return {key: getattr(reading, key) for key in keys} | marks


def csv_header(classes):
    probabilities = [f"probability_{name}" for name in classes]
    of_main_digit = ["prediction", "confidence", *probabilities, "is_digit", "digit_score"]
    return ["path", "number", "text", *of_main_digit, "review", "error"]


def csv_row(name, reading, min_confidence, digits):
    """The cells under csv_header() for a picture that was read."""
    probabilities = reading.probabilities.values()
    of_main_digit = [reading.prediction, reading.confidence, *probabilities, reading.is_digit, reading.digit_score]
    review = needs_review(reading, min_confidence, digits)
    return [name, reading.number, reading.text, *of_main_digit, review, ""]
