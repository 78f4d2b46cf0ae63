"""Signing in in Chromium: a code, a passkey (by a virtual authenticator), a required second factor, and other devices.

By the name localhost: a passkey belongs to a domain, and an address is none.
"""

import html
import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys.browsing import NewContext, Witness, give_password, sign_in, sign_out
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.visitor import PASSWORD
from tests.one_time_code import one_time_code
from tests.running import Running
from tests.tenants.identity_provider import IdentityProvider

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place("Vault")


@pytest.fixture
def origin(running: Running) -> str:
    return f"http://localhost:{running.port}"


def confirm_password(page: Page) -> None:
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()


def add_device(context: BrowserContext, page: Page) -> None:
    client = context.new_cdp_session(page)
    client.send("WebAuthn.enable")
    client.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})


def require_second_factor(place: Place) -> None:
    place.running.shell(
        "from tenants import lifecycle; from tenants.models import Tenant;"
        f"lifecycle.require_second_factor(Tenant.objects.get(pk='{place.id}'), True)"
    )


def test_a_required_second_factor_is_set_up_by_app_and_asked_for(
    context: BrowserContext, witness: Witness, place: Place, origin: str
) -> None:
    require_second_factor(place)
    page = context.new_page()
    give_password(page, place, origin=origin)
    expect(page.get_by_role("heading", name="A second factor is needed")).to_be_visible()
    expect(page.locator("#main")).to_contain_text("Vault requires it")
    witness.look(page)
    page.get_by_role("link", name="Set up an authenticator app").click()
    confirm_password(page)
    secret = page.get_by_label("Secret").input_value()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_text("This code is wrong or too old").first).to_be_visible()
    page.get_by_label("Code").fill(one_time_code(secret))
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    recovery = page.locator("#recovery_codes").inner_text().split()
    assert len(recovery) == 10
    witness.look(page)
    page.get_by_role("link", name="Continue").click()
    expect(page).to_have_url(f"{origin}{place.path}")
    witness.look(page)

    sign_out(page)
    give_password(page, place, origin=origin)
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    expect(page.get_by_role("button", name="Use your passkey")).to_have_count(0)
    page.get_by_label("Code").fill(recovery[0])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page).to_have_url(f"{origin}{place.path}")

    sign_out(page)
    give_password(page, place, origin=origin)
    page.get_by_label("Code").fill(recovery[0])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("This code is wrong or too old").first).to_be_visible()  # each signs in once
    page.get_by_label("Code").fill(one_time_code(secret))
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page).to_have_url(f"{origin}{place.path}")
    # the session from before, on another device, is not good enough
    assert "second-factor" in place.owner.get(place.path).url


def test_a_passkey_is_added_and_signs_in_alone_and_as_second_factor(
    context: BrowserContext, witness: Witness, place: Place, origin: str
) -> None:
    require_second_factor(place)
    page = context.new_page()
    add_device(context, page)
    give_password(page, place, origin=origin)
    page.get_by_role("link", name="Add a passkey").click()
    confirm_password(page)
    expect(page.get_by_label("Name")).to_have_value("Passkey in Chrome on Linux")
    expect(page.get_by_label("Sign in with it alone")).to_be_checked()
    witness.look(page)
    page.get_by_role("button", name="Add passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    page.get_by_role("link", name="Continue").click()
    expect(page).to_have_url(f"{origin}{place.path}")

    sign_out(page)
    page.goto(f"{origin}{place.path}documents/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page).to_have_url(f"{origin}{place.path}documents/")
    witness.look(page)

    sign_out(page)
    give_password(page, place, origin=origin)
    page.get_by_role("button", name="Use your passkey").click()
    expect(page).to_have_url(f"{origin}{place.path}")

    page.goto(f"{origin}/accounts/2fa/webauthn/")
    expect(page.get_by_role("row", name="Passkey in Chrome on Linux")).to_contain_text("alone")
    witness.look(page)


def test_a_device_without_a_passkey_is_told(context: BrowserContext, witness: Witness, running: Running, origin: str) -> None:
    page = context.new_page()
    page.goto(f"{origin}/accounts/login/")
    page.evaluate("() => { navigator.credentials.get = () => Promise.reject(new DOMException('', 'NotAllowedError')); }")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was used")
    page.goto(f"{running.url}/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("Passkeys need HTTPS")


def test_another_device_is_signed_out(
    new_context: NewContext, context: BrowserContext, witness: Witness, place: Place, origin: str
) -> None:
    phone = new_context(user_agent="Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0")
    there, page = phone.new_page(), context.new_page()
    sign_in(there, place, origin=origin)
    give_password(page, place, origin=origin)
    page.goto(f"{origin}/accounts/email/")
    page.get_by_role("link", name="Devices").click()
    expect(page.get_by_role("row", name="Chrome on Linux")).to_contain_text("This device")
    row = page.get_by_role("row", name="Firefox on Android")
    expect(row).to_contain_text("127.0.0.1")
    witness.look(page)
    row.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("That browser is signed out.")).to_be_visible()
    expect(row).to_have_count(0)
    there.get_by_role("searchbox").fill("anything")
    there.get_by_role("search").get_by_role("button", name="Search").click()  # in the page that stood open
    expect(there).to_have_url(re.compile("/accounts/login/"))
    sign_in(there, place, origin=origin)
    page.reload()
    page.get_by_role("button", name="Sign out everywhere else").click()
    expect(page.get_by_text(re.compile(r"Signed out \d other browser"))).to_be_visible()
    there.reload()
    expect(there).to_have_url(re.compile("/accounts/login/"))


def test_somebody_invited_comes_by_single_sign_on(context: BrowserContext, witness: Witness, place: Place) -> None:
    invited = place.owner.post(f"{place.path}members/invite/", {"email": "ann@example.org", "role": "viewer"})
    link = next(link for link in re.findall(r'value="(http[^"]+/invitation/[^"]+)"', invited.text))
    environment = {"OIDC_CLIENT_ID": "cloister", "OIDC_CLIENT_SECRET": "a-client-secret", "OIDC_NAME": "Guild"}
    with IdentityProvider() as provider, place.running.further_web(OIDC_ISSUER=provider.issuer, **environment) as origin:
        page = context.new_page()
        page.goto(f"{origin}/accounts/login/")
        witness.look(page)
        page.get_by_role("button", name="Sign in with Guild").click()  # by way of the provider, past form-action
        expect(page.get_by_role("heading", name="Your workspaces")).to_be_visible()
        expect(page.get_by_text("signed in as ann@example.org")).to_be_visible()
        page.goto(html.unescape(link).replace(place.running.url, origin))
        page.get_by_role("button", name="Join the workspace").click()
        expect(page).to_have_url(f"{origin}{place.path}")
        page.goto(f"{origin}/accounts/3rdparty/")
        expect(page.get_by_text("Ann@Example.org", exact=True)).to_be_visible()
        witness.look(page)
        sign_out(page)
        provider.claims |= {"sub": "person-2", "email": "bob@example.org"}
        page.get_by_role("button", name="Sign in with Guild").click()
        expect(page.get_by_text("No workspace has invited")).to_be_visible()
        witness.problems = [said for said in witness.problems if "403" not in said]  # Chromium tells of the status itself
