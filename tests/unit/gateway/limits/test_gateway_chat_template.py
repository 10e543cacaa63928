"""Templates of all sorts of folders, and what is rendered with them."""

import json
from pathlib import Path

import pytest

from gateway.limits.chat_template import ChatTemplate
from gateway.request.chat_form import ChatForm

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"é": "<b>"}}}
FORM = ChatForm([USER], [TOOL], None)


def template(folder: Path, source: str, **config: object) -> ChatTemplate:
    (folder / "chat_template.jinja").write_text(source)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    found = ChatTemplate.load(folder)
    assert found is not None
    return found


def test_it_sees_what_transformers_shows_it(tmp_path: Path) -> None:
    source = (
        "{{ bos_token }}{{ eos_token }}{% generation %}{{ messages[0].content }}"
        "{% endgeneration %}{% for tool in tools %}{{ tool | tojson }}{% break %}{% endfor %}"
        "{{ '>' if add_generation_prompt }}{{ strftime_now('%Y') | length }}"
    )
    made = template(tmp_path, source, bos_token="<s>", eos_token={"content": "</s>"})
    told = '{"type": "function", "function": {"name": "f", "parameters": {"é": "<b>"}}}'
    assert made.render(FORM) == f"<s></s>Hi{told}>4", "as JSON, not as HTML"


def test_of_several_the_one_for_tools_is_taken(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    found = ChatTemplate.load(tmp_path)
    assert found is not None
    assert found.render(FORM) == "tools"
    (tmp_path / "chat_template.jinja").write_text("a file goes before")
    found = ChatTemplate.load(tmp_path)
    assert found is not None
    assert found.render(FORM) == "a file goes before"


@pytest.mark.parametrize("config", ["{", "[]", '{"chat_template": "{% if %}"}', "{}"])
def test_a_folder_without_a_usable_template_has_none(tmp_path: Path, config: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(config)
    assert ChatTemplate.load(tmp_path) is None
    assert ChatTemplate.load(tmp_path / "gone") is None


def test_developers_and_late_instructions_are_what_the_template_takes(tmp_path: Path) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
        "{{ raise_exception('first') }}{% endif %}{{ m.role }}:{{ m.content }};{% endfor %}"
    )
    late = [USER, {"role": "developer", "content": "a"}, {"role": "system", "content": "b"}]
    assert template(tmp_path, source).render(ChatForm(late, None, None)) == (
        "system:a\n\nb;user:Hi;"
    )


@pytest.mark.parametrize(
    "source",
    ["{{ raise_exception('no') }}", "{{ messages[0].x.y }}", "{{ ''.__class__.__mro__[1].x() }}"],
)
def test_what_a_template_does_not_take_or_may_not_do_is_not_rendered(
    tmp_path: Path, source: str
) -> None:
    assert template(tmp_path, source).render(FORM) is None
