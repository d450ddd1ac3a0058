from __future__ import annotations

from reference_system.workbook.markdown_page import OBJECT, parse_page

PAGE = """# The `first` one

Some [93 **requests**/s](estimate.toml#rate) and
then [a page](other.md#place), `code` too.

## Empty

## Twice

| a | b |
|---|---|
| 5 ms | [x](y.md) |

## Twice

<!-- only a comment -->

> Write: something

<details>
<summary>Fact card</summary>

inside 7 ms

</details>

```mermaid
flowchart LR
  a -- 20 ms --> b
```

```sh
sleep 1000
```
"""


def test_links_keep_their_words_target_and_line() -> None:
    links = parse_page(PAGE).links

    assert [(link.text, link.target, link.line) for link in links] == [
        ("93 requests/s", "estimate.toml#rate", 3),
        ("a page", "other.md#place", 4),
        ("x", "y.md", 12),
    ]


def test_prose_has_neither_the_words_of_links_nor_code() -> None:
    passage = parse_page(PAGE).passages[1]

    assert passage.text == f"Some {OBJECT} and then {OBJECT}, {OBJECT} too."
    assert passage.code == ("code",)


def test_headings_know_whether_anything_stands_under_them() -> None:
    headings = parse_page(PAGE).headings

    assert [(heading.text, heading.level, heading.has_body) for heading in headings] == [
        ("The first one", 1, True),
        ("Empty", 2, False),
        ("Twice", 2, True),
        ("Twice", 2, True),
    ]


def test_a_comment_alone_is_no_body() -> None:
    assert not parse_page("# A\n\n<!-- later -->\n").headings[0].has_body


def test_a_heading_with_deeper_headings_has_a_body() -> None:
    assert parse_page("# A\n\n## B\n\ntext\n").headings[0].has_body


def test_anchors_are_those_of_code_hosts() -> None:
    assert parse_page(PAGE).anchors == {"the-first-one", "empty", "twice", "twice-1"}
    assert parse_page("## Rollout and A/B test\n\n## Is ML needed?\n").anchors == {
        "rollout-and-ab-test",
        "is-ml-needed",
    }


def test_diagrams_quotations_and_folded_text_are_told_apart() -> None:
    passages = parse_page(PAGE).passages

    assert [passage.kind for passage in passages if "ms" in passage.text] == ["prose", "prose", "mermaid"]
    assert [passage.text for passage in passages if passage.quoted] == ["Write: something"]
    assert any(passage.kind == "html" and "Fact card" in passage.text for passage in passages)
    assert not any("sleep" in passage.text for passage in passages)
