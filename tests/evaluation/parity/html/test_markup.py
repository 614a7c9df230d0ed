"""Markup from data: names of files are text, whatever they hold."""

from edge_stscq.evaluation.parity.html.markup import html, node


def test_text_and_attributes_are_escaped() -> None:
    page = html(node("p", "<b>&", node("i", "x"), "</p>", alt='"><script>', class_="a", aria_label="b"))
    assert page == (
        b"<!doctype html>\n"
        b'<p alt="&quot;&gt;<script&gt;" class="a" aria-label="b">&lt;b&gt;&amp;<i>x</i>&lt;/p&gt;</p>\n'
    )


def test_void_elements_have_no_end() -> None:
    assert html(node("div", "a", "b", node("br"), "c")) == b"<!doctype html>\n<div>ab<br>c</div>\n"
