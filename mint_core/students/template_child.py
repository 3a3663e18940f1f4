"""A process of its own that renders a chat template under limits; `mint_core.students.template_limits` starts it.

It imports nothing but jinja2, so that it starts in a moment. It reads a job from stdin and ends with one of the codes
below.
"""

import contextlib
import json
import sys
from typing import Any

CPU_SECONDS = 5
MEMORY_BYTES = 2**30
OUTPUT_CHARACTERS = 2**20
DONE, NO_MEMORY, TOO_LONG = 0, 3, 4


def main() -> None:
    """Renders every conversation of the job; errors of the template are none of its business."""
    job = json.load(sys.stdin)
    sys.path[:] = job["path"]
    _limit()
    try:
        _render(job["template"], job["conversations"])
    except MemoryError:
        sys.exit(NO_MEMORY)


def _limit() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has none of it
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _render(source: str, conversations: list[Any]) -> None:
    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which transformers knows: here its content stands for itself."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 wants it

        def parse(self, parser: Any) -> Any:
            """See jinja2."""
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals.update(raise_exception=refuse, strftime_now=lambda form: "1 Jan 2026")
    for messages, opens in conversations:
        written = 0
        with contextlib.suppress(Exception):
            try:
                template = environment.from_string(source)
                given = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
                pieces = template.generate(messages=messages, add_generation_prompt=opens, **given)
                for piece in pieces:
                    written += len(piece)
                    if written > OUTPUT_CHARACTERS:
                        sys.exit(TOO_LONG)
            except MemoryError:
                sys.exit(NO_MEMORY)


if __name__ == "__main__":
    main()
