// Sortable columns: the page says all without them. A reference line stands in the foot and stays there, a line of
// flags stays below its row, and rows stay in their block.
document.querySelectorAll("table.sortable").forEach((table) => {
  const value = (row, place) => {
    const cell = row.cells[place];
    if (!cell) return -Infinity;
    const text = cell.dataset.v ?? cell.textContent.trim();
    return text === "" ? -Infinity : isNaN(text) ? text : Number(text);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? (a < b ? -1 : a > b ? 1 : 0) : String(a).localeCompare(String(b));
  [...table.tHead.rows[table.tHead.rows.length - 1].cells].forEach((head, place, heads) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...[...head.childNodes].filter((node) => !node.classList?.contains("help")));
    head.prepend(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      [...table.tBodies].forEach((body) => {
        const below = new Map();
        [...body.rows].forEach((row) => row.classList.contains("beside") && below.set(row.previousElementSibling, row));
        const rows = [...body.rows].filter((row) => !["beside", "heading"].some((one) => row.classList.contains(one)));
        rows.sort((a, b) => compare(value(a, place), value(b, place)));
        if (down) rows.reverse();
        body.append(...rows.flatMap((row) => (below.has(row) ? [row, below.get(row)] : [row])));
      });
    });
  });
});
// A link into a folded part unfolds it.
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target && target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
