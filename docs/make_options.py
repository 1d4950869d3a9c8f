"""Print docs/options.md, the table of every option, from the models that check requests.

python docs/make_options.py > docs/options.md
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.jobs.options import JobOptions
from service.options import MattingOptions
from service.sessions.options import SessionOptions
from service.stills.options import ImageOptions

HEAD = """# Options

Made by `python docs/make_options.py > docs/options.md` from the code that checks requests.

Options are form fields, query parameters of a raw body, or members of a JSON document; of
`matte image`, `matte folder` and `matte video` they are flags (`--blur-radius 5`, `--crop`). An
option that does not exist, or that has no effect with the others, is refused ([errors](errors.md));
*needs* says what gives it one."""
ROUTES: dict[str, tuple[type[MattingOptions], str]] = {
    "`POST /v1/image`": (
        ImageOptions,
        "Files: `file`, or `url` where the operator allows it; for a model that takes a trimap "
        "`trimap_file`; for `output=composite` `background_file`, a photo; "
        "`hint_file`, white where the person is, black where not. `POST "
        "/v1/image/{result_id}` takes the same but `model`, `ref_size`, `roi`, `keep_s`, "
        "`trimap_file` and `hint_file`.",
    ),
    "`POST /v1/video`": (
        JobOptions,
        "Files: `file`, or `url`; for `outputs=composite` `background_file`, a photo, a clip or a "
        "GIF.",
    ),
    "`POST /v1/sessions`": (SessionOptions, "No files: they come in chunks."),
}


def describe_values(schema: Mapping[str, Any]) -> str:
    """Return which values an option may have."""
    kind = next((k for k in schema.get("anyOf", ()) if k.get("type") != "null"), schema)
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if kind["type"] == "boolean":
        return "`true`, `false`"
    examples = ", ".join(f"`{value}`" for value in schema.get("examples", ()))
    parts = [
        "text" if kind["type"] == "string" else kind["type"],
        describe_range(kind),
        f"a multiple of {kind['multipleOf']:g}" if "multipleOf" in kind else "",
        f"for example {examples}" if examples else "",
    ]
    return ", ".join(filter(None, parts))


def describe_range(kind: Mapping[str, Any]) -> str:
    """Return the bounds of a number, empty without any."""
    low, high = kind.get("minimum"), kind.get("maximum")
    if low is not None and high is not None:
        return f"{low:,g} to {high:,g}" if high < 10**5 else f"from {low:g}"
    words = {"exclusiveMinimum": "above", "exclusiveMaximum": "below", "maximum": "at most"}
    found = [f"{word} {kind[name]:g}" for name, word in words.items() if name in kind]
    return ", ".join(found)


def describe_rows(options: type[MattingOptions]) -> Iterator[str]:
    """Yield the rows of the table of a route."""
    for name, schema in options.model_json_schema()["properties"].items():
        default = schema.get("default")
        shown = ",".join(default) if isinstance(default, list) else str(default)
        shown = shown.lower() if isinstance(default, bool) else shown
        meaning = schema.get("description", "")
        if name in options.requirements:
            meaning = f"{meaning}; needs {options.requirements[name][1]}".lstrip("; ")
        cells = (f"`{name}`", describe_values(schema), "" if default is None else f"`{shown}`")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, meaning)) + " |"


def main() -> None:
    print(HEAD)
    for route, (options, text) in ROUTES.items():
        print(f"\n## {route}\n\n{text}\n")
        print("| option | values | default | meaning |\n|---|---|---|---|")
        print("\n".join(describe_rows(options)))


if __name__ == "__main__":
    main()
