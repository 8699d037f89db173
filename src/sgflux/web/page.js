// A word below a picture shows its heat map there while it is pointed at, or has the focus.
for (const [begin, end] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
  const show = (event, plain) => {
    const word = event.target.closest?.("[data-heat]");
    const image = word?.closest(".sg-panel")?.querySelector("img");
    if (image) image.src = plain ? image.dataset.plain : word.dataset.heat;
  };
  document.addEventListener(begin, (event) => show(event, false));
  document.addEventListener(end, (event) => show(event, true));
}
