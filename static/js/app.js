/* What every page does beyond HTML: CSRF for htmx, focus and announcements after a swap, buttons that cannot fire twice,
   copying, menus, keys, and the choices kept in this browser. Knows data- attributes, no page. Nothing here is needed to
   use a page, except live progress. */
(() => {
  "use strict";

  const root = document.documentElement;
  const find = (selector, within = document) => within.querySelector(selector);
  const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];
  const csrf = () => find('meta[name="csrf-token"]')?.content || "";

  /* Announcements: polite and the newest wins. Progress is said at most every ten seconds, an answer at once, and what follows
     the typing once the typing rests. */
  const QUIET = 10000;
  const AT_ONCE = 150;
  const AT_REST = 1000;
  let announcedAt = -QUIET;
  let announced = "";
  let waiting = "";
  let timer = 0;
  function announce(words, atOnce = false, after = AT_ONCE) {
    const text = words.replace(/\s+/g, " ").trim();
    if (!text || (text === announced && !atOnce)) return;
    waiting = text;
    if (timer && !atOnce) return;
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = 0;
      announced = waiting;
      announcedAt = performance.now();
      const live = find("#live");
      if (live) live.textContent = waiting;
    }, atOnce ? after : Math.max(after, announcedAt + QUIET - performance.now()));
  }

  /* Buttons that work cannot fire twice. The attribute `disabled` would drop the button's own value from the form. */
  const BUSY_AFTER = 300;
  function busy(form, button) {
    form.dataset.isBusy = "";
    form.setAttribute("aria-busy", "true");
    if (!button) return;
    button.dataset.isBusy = "";
    button.setAttribute("aria-disabled", "true");
    speak(form, button);
  }
  function speak(form, button) {
    const words = button?.dataset.busy;
    clearTimeout(form.busyTimer);
    if (!words || button.idle) return;
    form.busyTimer = setTimeout(() => {
      button.idle = [...button.childNodes];
      button.replaceChildren(words);
    }, BUSY_AFTER);
  }
  function free(form) {
    clearTimeout(form.busyTimer);
    delete form.dataset.isBusy;
    form.removeAttribute("aria-busy");
    for (const button of form.elements) {
      if ("isBusy" in button.dataset) {
        delete button.dataset.isBusy;
        button.removeAttribute("aria-disabled");
      }
      if (button.idle) {
        button.replaceChildren(...button.idle);
        delete button.idle;
      }
    }
  }
  const isHtmx = (form) => form.matches("[hx-post], [hx-get], [hx-put], [hx-delete], [hx-patch]");
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || form.method === "dialog") return;
    if ("isBusy" in form.dataset) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    // A download leaves the page standing, and a search that is asked again replaces the one before.
    if (form.target || (form.method === "get" && !isHtmx(form))) return;
    if (form.dataset.busy === "off" || form.hasAttribute("hx-sync")) {
      if (isHtmx(form)) speak(form, event.submitter || find("button[data-busy]", form));
      return;
    }
    busy(form, event.submitter);
    if (!isHtmx(form)) setTimeout(() => event.defaultPrevented && free(form));
  }, true);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.('[aria-disabled="true"]');
    if (button) event.preventDefault();
  }, true);
  document.addEventListener("htmx:afterRequest", (event) => {
    const form = event.target.closest?.("form");
    if (form) free(form);
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) [...document.forms].forEach(free);
  });

  /* htmx: the CSRF header; focus where reading goes on; what changed is said. */
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") event.detail.headers["X-CSRFToken"] = csrf();
  });
  // Only what a person has just done may move the focus or be answered by a complaint; polling may not.
  const BY_HAND = ["submit", "click", "change", "input", "search", "keydown", "keyup"];
  const byHand = (config) => BY_HAND.includes(config?.triggeringEvent?.type);
  document.addEventListener("htmx:responseError", (event) => {
    if (byHand(event.detail.requestConfig)) complain(event.detail.xhr.status, event.detail.elt);
  });
  document.addEventListener("htmx:sendError", (event) => {
    if (byHand(event.detail.requestConfig)) complain(0, event.detail.elt);
  });
  const COMPLAINTS = {
    0: "Cloister cannot be reached. Nothing was changed. Check your connection and try again.",
    403: "You are signed out or may not do this. Reload the page to see.",
    404: "This no longer exists. Reload the page to see what is there.",
    413: "That is larger than this installation accepts.",
  };
  function complain(status, near) {
    const words = COMPLAINTS[status] || "Something went wrong on our side and was recorded. Try again in a minute.";
    const form = near?.closest?.("form");
    let box = find("[data-complaint]");
    if (!box) {
      box = document.createElement("div");
      box.className = "banner banner-bad";
      box.setAttribute("role", "alert");
      box.tabIndex = -1;
      box.dataset.complaint = "";
    }
    if (form) form.after(box);
    else find("#main .page")?.prepend(box);
    const text = document.createElement("p");
    text.textContent = words;
    box.replaceChildren(text);
  }
  document.addEventListener("htmx:afterSettle", (event) => {
    const target = event.detail.target || event.target;
    const asked = byHand(event.detail.requestConfig);
    const typed = event.detail.requestConfig?.triggeringEvent?.type === "input";
    find("[data-complaint]")?.remove();
    for (const part of [target, ...findAll("[data-announce]", target)]) {
      if (part.dataset && "announce" in part.dataset) announce(part.dataset.announce || part.textContent, asked, typed ? AT_REST : AT_ONCE);
    }
    dress(target);
    if (!asked || typed) return; // who types goes on typing
    const wanted = find("[data-focus]", target);
    if (wanted) wanted.focus();
    else if (document.activeElement === document.body || !document.activeElement) {
      const landing = find('h1[tabindex="-1"], h2[tabindex="-1"], h3[tabindex="-1"]', target) || target;
      if (!landing.hasAttribute("tabindex")) {
        landing.tabIndex = -1;
        landing.dataset.landing = "";
      }
      landing.focus({ preventScroll: true });
    }
  });

  /* Copying: data-copy="#id" copies that element's value or text. */
  async function copy(button) {
    const source = find(button.dataset.copy);
    const text = source ? (source.value ?? source.textContent).trim() : "";
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      // No clipboard without HTTPS: show and select it, so that one key press copies it.
      const closed = source?.closest("details:not([open])");
      if (closed) closed.open = true;
      if (source && source.select) {
        source.focus();
        source.select();
      } else if (source) {
        getSelection().selectAllChildren(source);
      }
      done = document.execCommand("copy");
    }
    const label = find("[data-label]", button) || button;
    if (!button.dataset.words) button.dataset.words = label.textContent;
    label.textContent = done ? "Copied" : "Press Ctrl+C";
    announce(done ? "Copied" : "Selected. Press Ctrl+C to copy", true);
    clearTimeout(button.copyTimer);
    button.copyTimer = setTimeout(() => {
      label.textContent = button.dataset.words;
      delete button.dataset.words;
    }, 2500);
  }

  /* Choices kept in this browser: theme, table density, shortcuts. The server reads the cookies, so nothing flashes. */
  const YEAR = 31536000;
  function prefer(name, value) {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${name}=${value}; Path=/; Max-Age=${value ? YEAR : 0}; SameSite=Lax${secure}`;
    if (value) root.dataset[name] = value;
    else delete root.dataset[name];
  }
  document.addEventListener("change", (event) => {
    const control = event.target;
    if (control.dataset?.preference) {
      prefer(control.dataset.preference, control.type === "checkbox" && !control.checked ? "" : control.value);
    }
    const choice = control.matches?.('select, [type="checkbox"], [type="radio"]') && control.closest("[data-autosubmit]");
    if (choice && control.form?.checkValidity()) control.form.requestSubmit();
  });

  /* Menus close on a click elsewhere, when the focus leaves and on Esc. */
  const closeMenus = (except) => findAll("details.menu[open]").forEach((menu) => menu !== except && (menu.open = false));
  document.addEventListener("click", (event) => {
    const target = event.target;
    if (!(target instanceof Element)) return;
    closeMenus(target.closest("details.menu"));
    const copying = target.closest("[data-copy]");
    if (copying) {
      event.preventDefault();
      copy(copying);
    }
    const opener = target.closest("[data-open]");
    if (opener) {
      closeMenus();
      show(find(opener.dataset.open));
    }
    const revealer = target.closest("[data-reveal]");
    if (revealer) {
      const input = find(revealer.dataset.reveal);
      const hidden = input.type === "password";
      input.type = hidden ? "text" : "password";
      revealer.textContent = hidden ? "Hide" : "Show";
      revealer.setAttribute("aria-pressed", String(hidden));
    }
    const dismisser = target.closest("[data-dismiss]");
    if (dismisser) dismisser.closest(dismisser.dataset.dismiss || ".toast")?.remove();
  });
  document.addEventListener("focusout", (event) => {
    const menu = event.target.closest?.("details.menu[open]");
    if (menu && event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  const show = (dialog) => dialog && !dialog.open && dialog.showModal();

  /* Keys. `/` and the arrows act anywhere but in a field; letters only while a result has the focus. */
  const searchInput = () => find("[data-search]") || find('main input[type="search"]');
  const results = () => findAll(".result").filter((result) => result.offsetParent);
  const typing = (element) =>
    element.isContentEditable ||
    (element.matches?.("input, textarea, select") && !element.matches('[type="checkbox"], [type="radio"], [type="button"]'));
  function step(direction) {
    const all = results();
    if (!all.length) return false;
    const here = all.findIndex((result) => result.contains(document.activeElement));
    const next = here < 0 ? (direction > 0 ? 0 : -1) : here + direction;
    if (next < 0) {
      searchInput()?.focus();
      return true;
    }
    const result = all[Math.min(next, all.length - 1)];
    (find(".result-title a", result) || result).focus();
    result.scrollIntoView({ block: "nearest" });
    return true;
  }
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const active = document.activeElement || document.body;
    if (event.key === "Escape") {
      const menu = find("details.menu[open]");
      if (menu) {
        menu.open = false;
        find("summary", menu)?.focus();
      } else if (active.closest(".result")) {
        searchInput()?.focus();
      }
      return;
    }
    if (root.dataset.shortcuts === "off" || find("dialog[open]")) return;
    const inSearch = active === searchInput();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const down = event.key === "ArrowDown";
      if ((inSearch && down) || active.closest(".result")) {
        if (!typing(active) || inSearch) step(down ? 1 : -1) && event.preventDefault();
      }
      return;
    }
    if (typing(active)) return;
    if (event.key === "/") {
      const input = searchInput();
      if (input) {
        event.preventDefault();
        input.focus();
        input.select();
      } else {
        const link = find(".nav a");
        if (link) {
          event.preventDefault();
          link.click();
        }
      }
    } else if (event.key === "?") {
      event.preventDefault();
      show(find("#keys"));
    } else if ((event.key === "j" || event.key === "k") && active.closest(".result")) {
      step(event.key === "j" ? 1 : -1);
    } else {
      const act = active.closest(".result")?.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
      if (act) {
        event.preventDefault();
        act.click();
      }
    }
  });

  /* A toast goes after ten seconds, and waits while it is pointed at or has the focus. */
  function expire(toast) {
    if ("timed" in toast.dataset) return;
    toast.dataset.timed = "";
    let left = 10000;
    let since = performance.now();
    let end = setTimeout(() => toast.remove(), left);
    const pause = () => {
      clearTimeout(end);
      left -= performance.now() - since;
    };
    const go = () => {
      since = performance.now();
      end = setTimeout(() => toast.remove(), Math.max(left, 1000));
    };
    toast.addEventListener("mouseenter", pause);
    toast.addEventListener("mouseleave", go);
    toast.addEventListener("focusin", pause);
    toast.addEventListener("focusout", go);
  }

  /* A picture that does not come gives way to the words kept for it. */
  function giveWay(picture) {
    const frame = picture.closest("[data-picture]");
    find("a", frame).hidden = true;
    find("[data-otherwise]", frame).hidden = false;
  }
  document.addEventListener("error", (event) => {
    if (event.target.matches?.("[data-picture] img")) giveWay(event.target);
  }, true);

  /* What a fresh piece of page needs once. */
  function dress(within) {
    findAll(".toast", within).forEach(expire);
    findAll("[data-picture] img", within).filter((picture) => picture.complete && !picture.naturalWidth).forEach(giveWay);
    for (const control of findAll("[data-preference]", within)) {
      const chosen = root.dataset[control.dataset.preference] || "";
      control.checked = control.value === chosen;
    }
  }
  dress(document);
  for (const here of findAll('.nav [aria-current="page"], .tabs [aria-current="page"]')) {
    here.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  find("[data-focus]")?.focus();

  window.cloister = { announce, csrf };
})();
