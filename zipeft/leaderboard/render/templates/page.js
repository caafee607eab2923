"use strict";
// Without this script the tables are whole, and not sortable.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const original = [...body.rows];

  const compare = (a, b, sign) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined); // no value comes last
    const [x, y] = [Number(a), Number(b)];
    return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en") : x - y);
  };

  const sort = (header) => {
    const other = { ascending: "descending", descending: "ascending" };
    const order = other[header.getAttribute("aria-sort")] ?? header.dataset.first;
    for (const each of headers) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const value = (row) => row.cells[header.cellIndex].dataset.value;
    const sign = order === "ascending" ? 1 : -1;
    body.append(...original.toSorted((a, b) => compare(value(a), value(b), sign)));
  };

  for (const header of headers) {
    const button = document.createElement("button"); // a button takes Enter, space and focus by itself
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header));
    header.append(button);
  }
}
