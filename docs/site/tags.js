// A row of buttons above the cards of a gallery: each shows the cards with one tag, the first shows all.
document.addEventListener("DOMContentLoaded", () => {
  const cards = [...document.querySelectorAll(".tagged")].map((card) => ({
    column: card.closest(".sd-col") ?? card,
    tags: [...card.classList].filter((name) => name.startsWith("tag-")).map((name) => name.slice(4)),
  }));
  const row = document.querySelector(".tags");
  if (!row || !cards.length) return;
  const names = JSON.parse(row.dataset.names);
  const tags = [...new Set(cards.flatMap((card) => card.tags))].sort();
  for (const tag of ["all", ...tags]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = names[tag] ?? tag;
    button.setAttribute("aria-pressed", tag === "all");
    button.addEventListener("click", () => {
      for (const other of row.children) other.setAttribute("aria-pressed", other === button);
      for (const card of cards) card.column.hidden = tag !== "all" && !card.tags.includes(tag);
    });
    row.append(button);
  }
});
