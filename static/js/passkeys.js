/* Passkeys: joins a page's buttons to allauth's own script (mfa/js/webauthn.js), and says in words what went wrong.
   A button has data-passkey with the name of allauth's form: loginForm, authenticateForm, addForm. */
(() => {
  "use strict";

  const say = (words) => {
    const place = document.querySelector("[data-passkey-said]");
    if (!place) return;
    place.textContent = words;
    place.hidden = false;
  };
  const OUTCOMES = {
    NotAllowedError: "No passkey was used: it was cancelled, took too long, or this device has none for this address.",
    InvalidStateError: "This device has a passkey for your account already.",
    SecurityError: "Passkeys need HTTPS, or the address localhost.",
    NotSupportedError: "This device cannot make the kind of passkey that is needed.",
  };
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    say(OUTCOMES[event.detail.exception?.name] || "The passkey could not be used. Load the page again and try once more.");
  });

  for (const button of document.querySelectorAll("[data-passkey]")) {
    const offered = button.closest("[data-passkey-offer]") || button;
    if (!window.PublicKeyCredential) {
      if (button.dataset.passkey === "loginForm") offered.hidden = true;
      else {
        button.hidden = true;
        say("This browser offers no passkeys here: they need HTTPS, or the address localhost.");
      }
      continue;
    }
    window.allauth.webauthn.forms[button.dataset.passkey]({
      ids: {
        login: button.id,
        add: button.id,
        authenticate: button.id,
        credential: button.dataset.credential,
        passwordless: button.dataset.passwordless,
        data: "js_data",
      },
    });
  }
})();
