"use strict";
for (const head of document.querySelectorAll("table.slides thead th")) {
  const button = head.querySelector("button");
  if (!button) continue;
  button.addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const key = (row) => row.children[head.cellIndex].dataset.sort ?? "";
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = head.dataset.kind === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
      return ascending ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
  });
}
