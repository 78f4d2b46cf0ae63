"""The template words of workspace.templatetags.ui: what a person, a screen reader and a form get from them."""

from datetime import UTC, date, datetime

import pytest
from django import forms
from django.template import Context, RequestContext, Template, TemplateSyntaxError
from django.test import RequestFactory
from django.test.html import parse_html
from django.utils.safestring import SafeString

from workspace.templatetags import ui
from workspace.templatetags.ui import byte_size, count, exact_date, format_name, signed


def render(source: str, **context: object) -> str:
    return Template(source).render(Context(context))


class SampleForm(forms.Form):
    name = forms.CharField(help_text="What members see.")
    slug = forms.CharField(label="Address", required=False)
    password = forms.CharField(widget=forms.PasswordInput, required=False)
    level = forms.ChoiceField(choices=[("a", "Relevant"), ("b", "Not relevant")], widget=forms.RadioSelect)
    sure = forms.BooleanField(label="I have read it")
    token = forms.CharField(widget=forms.HiddenInput)

    def clean(self) -> dict[str, object]:
        if self.data.get("name") == "both":
            raise forms.ValidationError("Name and address contradict each other.")
        return self.cleaned_data


class TestIcon:
    def test_it_is_hidden_from_screen_readers(self) -> None:
        drawn = render('{% icon "plus" %}')
        assert drawn.startswith("<svg")
        assert 'aria-hidden="true"' in drawn
        assert 'width="20"' in drawn

    def test_it_is_small_on_demand(self) -> None:
        assert 'class="icon icon-small"' in render('{% icon "plus" 16 %}')


class TestState:
    @pytest.mark.parametrize(
        ("stored", "kind", "word"),
        [
            ("queued", "queued", "Queued"),
            ("extracting", "working", "Extracting text"),
            ("embedding", "working", "Embedding"),
            ("ready", "ready", "Ready"),
            ("failed", "failed", "Failed"),
            ("cancelled", "cancelled", "Cancelled"),
        ],
    )
    def test_it_has_a_sign_and_a_word(self, stored: str, kind: str, word: str) -> None:
        drawn = render("{% state stored %}", stored=stored)
        assert f'class="state state-{kind}"' in drawn
        assert "<svg" in drawn
        assert f"{word}</span>" in drawn

    def test_it_says_an_unknown_state_as_it_is(self) -> None:
        assert "Half done</span>" in render("{% state stored %}", stored="half_done")

    def test_it_takes_a_better_word(self) -> None:
        assert "On</span>" in render('{% state "active" "On" %}')

    def test_it_escapes_what_it_is_given(self) -> None:
        assert "<script>" not in render("{% state stored %}", stored="<script>")


class TestField:
    def test_it_ties_label_hint_and_control_together(self) -> None:
        drawn = render("{% field form.name %}", form=SampleForm())
        assert '<label for="id_name">Name</label>' in drawn
        assert '<div class="hint" id="id_name_hint">What members see.</div>' in drawn
        assert 'aria-describedby="id_name_hint"' in drawn
        assert "aria-invalid" not in drawn

    def test_it_marks_what_may_stay_empty(self) -> None:
        assert "(optional)" in render("{% field form.slug %}", form=SampleForm())
        assert "(optional)" not in render("{% field form.name %}", form=SampleForm())

    def test_it_shows_the_error_and_keeps_what_was_typed(self) -> None:
        form = SampleForm({"name": "", "slug": 'a"<b>'})
        drawn = render("{% field form.name %}{% field form.slug %}", form=form)
        assert 'aria-invalid="true"' in drawn
        assert 'aria-describedby="id_name_hint id_name_error"' in drawn
        assert 'id="id_name_error"' in drawn
        assert "This field is required." in drawn
        assert 'value="a&quot;&lt;b&gt;"' in drawn

    def test_it_groups_radio_buttons_under_a_legend(self) -> None:
        drawn = render("{% field form.level %}", form=SampleForm())
        assert "<fieldset" in drawn
        assert "<legend>Level</legend>" in drawn

    def test_it_puts_a_tick_box_before_its_label(self) -> None:
        drawn = render("{% field form.sure %}", form=SampleForm())
        assert drawn.index("<input") < drawn.index("<label")

    def test_it_can_show_a_password(self) -> None:
        assert 'data-reveal="#id_password"' in render("{% field form.password %}", form=SampleForm())

    def test_it_draws_a_hidden_field_bare(self) -> None:
        drawn = render("{% field form.token %}", form=SampleForm())
        assert 'type="hidden"' in drawn
        assert "<label" not in drawn

    def test_it_takes_other_words_and_attributes(self) -> None:
        drawn = render('{% field form.name label="Title" hint=False placeholder="x" %}', form=SampleForm())
        assert ">Title</label>" in drawn
        assert "hint" not in drawn
        assert 'placeholder="x"' in drawn


class TestFormErrors:
    def test_it_is_silent_without_errors(self) -> None:
        assert render("{% form_errors form %}", form=SampleForm()).strip() == ""

    def test_it_links_to_each_field_and_takes_the_focus(self) -> None:
        drawn = render("{% form_errors form %}", form=SampleForm({"name": "", "level": "c"}))
        assert 'role="alert"' in drawn
        assert "data-focus" in drawn
        assert '<a href="#id_name">Name</a>: This field is required.' in drawn
        assert '<a href="#id_level">Level</a>' in drawn
        assert "#id_token" not in drawn

    def test_it_says_what_concerns_the_whole_form(self) -> None:
        filled = {"name": "both", "level": "a", "sure": "on", "token": "t"}
        drawn = render("{% form_errors form %}", form=SampleForm(filled))
        assert "<p>Name and address contradict each other.</p>" in drawn


class TestBytes:
    @pytest.mark.parametrize(
        ("count", "words"),
        [
            (None, ""),
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1000, "1.0\xa0kB"),
            (4_200_000, "4.2\xa0MB"),
            (999_960, "1.0\xa0MB"),
            (3 * 10**15, "3000.0\xa0TB"),
        ],
    )
    def test_it_reads_as_people_write_sizes(self, count: int | None, words: str) -> None:
        assert byte_size(count) == words


class TestCount:
    @pytest.mark.parametrize(("number", "words"), [(None, ""), (0, "0"), (999, "999"), (1204, "1,204")])
    def test_it_groups_digits(self, number: int | None, words: str) -> None:
        assert count(number) == words


class TestSigned:
    @pytest.mark.parametrize(("number", "words"), [(None, ""), (2.678, "+2.68"), (0.0, "+0.00"), (-0.42, "\N{MINUS SIGN}0.42")])
    def test_it_says_on_which_side_of_the_average(self, number: float | None, words: str) -> None:
        assert signed(number) == words


class TestFormatName:
    def test_it_knows_every_format_that_is_read(self) -> None:
        from documents.extraction.formats import FORMATS

        assert all(format_name(form) != form for form in FORMATS)
        assert format_name("markdown") == "Markdown"

    def test_it_leaves_what_it_does_not_know(self) -> None:
        assert format_name("") == ""
        assert format_name("wps") == "wps"


class TestExactDate:
    def test_it_gives_the_minute_and_a_machine_readable_moment(self) -> None:
        drawn = exact_date(datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))
        assert drawn == '<time datetime="2026-03-04T05:06:07+00:00">4 Mar 2026, 05:06</time>'

    def test_it_takes_days_and_nothing(self) -> None:
        assert exact_date(date(2026, 3, 4)) == '<time datetime="2026-03-04">4 Mar 2026</time>'
        assert exact_date(None) == ""


class TestCapture:
    def test_it_keeps_markup_for_later(self) -> None:
        assert render("{% capture words %} <b>{{ x }}</b> {% endcapture %}[{{ words }}]", x="<") == "[<b>&lt;</b>]"

    def test_it_is_empty_for_an_empty_block(self) -> None:
        captured = "{% capture words %}{% block words %}{% endblock %}{% endcapture %}"
        assert render(captured + "{% if words %}full{% else %}empty{% endif %}") == "empty"

    def test_it_refuses_anything_but_a_name(self) -> None:
        with pytest.raises(TemplateSyntaxError):
            Template("{% capture %}{% endcapture %}")


class TestPreferences:
    def render(self, **cookies: str) -> SafeString:
        request = RequestFactory().get("/")
        request.COOKIES.update(cookies)
        return Template("<html{% preferences %}>").render(RequestContext(request, {"request": request}))

    def test_it_sets_known_choices(self) -> None:
        drawn = self.render(theme="dark", density="compact", shortcuts="off")
        assert drawn == '<html data-theme="dark" data-density="compact" data-shortcuts="off">'

    def test_it_ignores_anything_else(self) -> None:
        assert self.render(theme='x" onload="y', density="huge") == "<html>"

    def test_it_works_without_a_request(self) -> None:
        assert render("<html{% preferences %}>") == "<html>"


class Lines(forms.Form):
    """Single lines of text of every kind that a page has."""

    plain = forms.CharField(max_length=9, initial='"<b>&')
    optional = forms.CharField(
        required=False, disabled=True, widget=forms.TextInput(attrs={"data-search": True, "type": "search"})
    )
    own_id = forms.CharField(widget=forms.TextInput(attrs={"id": "mine", "class": "a b", "data-none": False}), help_text="Why")
    number = forms.DecimalField(localize=True, widget=forms.TextInput)


@pytest.mark.parametrize("name", Lines.base_fields)
@pytest.mark.parametrize("asked", [None, {"plain": "", "optional": "'x'", "own_id": "<script>", "number": "1,5"}])
def test_a_line_of_text_is_what_django_makes_of_it(name: str, asked: dict[str, str] | None):
    bound = Lines(asked)[name]
    given = {"aria-invalid": "true", "placeholder": False, "title": '"'}
    made, expected = parse_html(ui._control(bound, dict(given))), parse_html(bound.as_widget(attrs=dict(given)))
    assert made == expected
