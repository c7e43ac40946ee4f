"""What the pages of docs/ and README.md say agrees with the code: names, options, messages, links."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from pages import FENCE, PAGES, ROOT

from resnet_jax.cli import COMMANDS, call


def test_the_functions_that_data_path_lists_exist():
    steps = re.findall(r"^\d+\. `(.+?):(.+?)`", (ROOT / "docs" / "data_path.md").read_text(), re.MULTILINE)
    assert len(steps) <= 18
    for path, name in steps:
        nodes = ast.walk(ast.parse((ROOT / path).read_text()))
        assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}, path


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_readme_and_notebooks_have_the_address_of_the_repository(path):
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    project = address.removeprefix("https://github.com/")
    badge = f"colab.research.google.com/github/{project}/blob/main/notebooks/{path.name})"
    assert badge in (ROOT / "README.md").read_text()
    assert address in path.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_give_a_command_the_options_that_it_has(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        call([command, "--help"])
    name = r"(?:resnet-jax train|train\.py)" if command == "train" else f"resnet-jax {command}"
    calls = re.findall(rf"\b{name} ((?:[^\n`\\&|#]|\\\n)*)", "\n".join(page.read_text() for page in PAGES))
    given = {option for line in calls for option in re.findall(r"(?<!\S)--[a-z][\w.-]*", line)}
    assert sorted(given - {"--config"} - set(re.findall(r"--[a-z][\w.-]*\w", capsys.readouterr().out))) == []


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"resnet-jax {name}" not in text] == []


def test_the_index_has_a_line_for_every_page():
    index = re.findall(r"^- \[.+?\]\((.+?)\): ", (ROOT / "docs" / "README.md").read_text(), re.MULTILINE)
    assert sorted(index) == [page.name for page in PAGES if page.parent.name == "docs" and page.name != "README.md"]


def test_the_reference_has_every_public_name():
    stub = re.findall(r" as (\w+)$", (ROOT / "resnet_jax" / "__init__.pyi").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"^.. auto\w+:: (\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)) == sorted(
        stub
    )


def strings(path: Path) -> list[str]:
    """Return the strings in a file of the package, with an ellipsis for each value that is filled in."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""

    return [re.sub("…+", "…", text(node)) for node in ast.walk(ast.parse(path.read_text()))]


def test_the_messages_in_troubleshooting_are_printed_by_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    printed = "\n".join(text for path in (ROOT / "resnet_jax").rglob("*.py") for text in strings(path))
    quoted = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert len(quoted) == page.count("\n### ")
    assert [message for message in quoted if message.removesuffix("…").removeprefix("…") not in printed] == []


def places(page: Path) -> set[str]:
    """Return the names that a page's headings have in links."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_to_a_file(page):
    text = FENCE.sub("", page.read_text())
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text)
    assert [link for link, _ in links if not (page.parent / link).exists()] == []
    named = [(page.parent / link if link else page, place) for link, place in links if place]
    assert [f"{target}#{place}" for target, place in named if place not in places(target)] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "LOG.md"], ids=lambda page: page.name)
def test_every_table_has_a_header_and_one_number_of_columns(page):
    for table in re.findall(r"(?:^\|.*\n)+", FENCE.sub("", page.read_text()), re.MULTILINE):
        header, rule, *rows = table.splitlines()
        assert re.fullmatch(r"[|: -]+", rule), header
        columns = {line.replace(r"\|", "").count("|") for line in (header, rule, *rows)}
        assert len(columns) == 1, header
