"""Widgets: they show what the function underneath returns."""

from lessons_lib.report.widgets import text_playground


def test_button_shows_the_functions_answer():
    """Failing means the box on the page does nothing."""
    panel = text_playground(lambda text: f"read: {text}", "first", "review")
    box, button, shown = panel.children
    assert "read: first" in shown.value
    box.value = "  second "
    button.click()
    assert "read: second" in shown.value
    box.value = " "
    button.click()
    assert "Type a sentence first" in shown.value


def test_markup_in_an_answer_is_shown_as_text():
    """Failing means a passage with a tag in it breaks the page, or runs there."""
    playground = text_playground(lambda text: f"<b>{text}</b>", "a", "text")
    assert "&lt;b&gt;a&lt;/b&gt;" in playground.children[2].value
