/* Ticked documents: they stay ticked while the rows below come anew and from page to page. Without this, what is ticked
   on the page is sent as it stands. */
(() => {
  "use strict";

  const form = document.getElementById("bulk");
  if (!form) return;
  const ticked = new Set();
  const rows = () => document.getElementById("document-rows");
  const boxes = () => [...(rows()?.querySelectorAll('input[form="bulk"]') || [])];
  const option = form.querySelector("[data-chosen]");
  const words = option.textContent;

  function show() {
    for (const box of boxes()) {
      box.checked = ticked.has(box.value);
      if (box.checked) box.closest("tr").setAttribute("aria-selected", "true");
      else box.closest("tr").removeAttribute("aria-selected");
    }
    option.textContent = ticked.size ? `${words} (${ticked.size.toLocaleString("en")})` : words;
  }

  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.getAttribute?.("form") !== "bulk") return;
    if (box.checked) ticked.add(box.value);
    else ticked.delete(box.value);
    form.elements.which.value = "chosen";
    show();
  });
  document.addEventListener("htmx:afterSettle", show);

  // The list turns its page in place, so that what was ticked is not forgotten.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("#document-rows .pager a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const address = new URL(link.href);
    const into = rows();
    into.setAttribute("hx-get", new URL(`rows/${address.search}`, address).pathname + address.search);
    window.htmx.process(into);
    window.htmx.trigger(into, "documents-changed");
    history.replaceState(history.state, "", address);
  });

  // What is ticked on other pages goes along.
  form.addEventListener("formdata", (event) => {
    event.formData.delete("document");
    for (const id of ticked) event.formData.append("document", id);
  });
})();
