"use strict";
// Sorts the table by the column of the heading that is pressed. Missing values stay at the end in both directions.
const table = document.querySelector("table");
const body = table.tBodies[0];
const headings = [...table.querySelectorAll("thead button")].map((button) => button.parentElement);

function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

function sortBy(column) {
  const ascending = headings[column].getAttribute("aria-sort") !== "ascending";
  const value = (row) => row.cells[column].dataset.value;
  const rows = [...body.rows];
  rows.sort((a, b) => {
    if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === "");
    return ascending ? compare(value(a), value(b)) : compare(value(b), value(a));
  });
  body.append(...rows);
  headings.forEach((heading) => heading.removeAttribute("aria-sort"));
  headings[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
}

headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => sortBy(column)));
