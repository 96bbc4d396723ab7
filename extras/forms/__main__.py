"""From a stack of scanned forms to a table. First: pip install -r extras/requirements-forms.txt

    python -m extras.forms find blank_form.png           # proposes fields: blank_form.json, blank_form_fields.png
    python -m extras.forms read blank_form.json scans/   # writes scans.csv, and scans_review.html to review it

The JSON file says where the fields of the form are. Edit it: name the fields, remove those that are not for numbers.
A row of the table is a sheet, a column a field. Scans may be shifted, turned, scaled, or photos in perspective; they
are pictures, TIFFs or PDFs, a page for each sheet. Each command explains itself: python -m extras.forms read --help
"""

import sys

from digits.cli import Parser, UsageError, run


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    return run(start, *argv[:1], argv[1:], keep_going=True) if argv[:1] in (["find"], ["read"]) else overview(argv)


def start(command, argv):
    """Run a command with its flags; return the exit status."""
    try:
        from extras.forms import find, read
    except ModuleNotFoundError as error:
        if error.name not in ("cv2", "pypdfium2"):
            raise
        raise UsageError(f"the package {error.name} is missing: pip install -r extras/requirements-forms.txt") from None
    module = {"find": find, "read": read}[command]
    parser = Parser(module.__doc__, module.Settings)
    parser.prog = f"forms {command}"
    return getattr(module, command)(parser.settings(argv))


def overview(argv):
    parser = Parser(__doc__)
    parser.prog = "forms"
    parser.add_argument("command", choices=("find", "read"), help="what to do")
    parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
