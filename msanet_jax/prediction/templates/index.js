"use strict";
const patients = document.getElementById("patients");
const letters = new Intl.Collator(undefined, { numeric: true });
let sorted = null;

// Rows without a value stay last in either direction; equal ones keep their order.
function sortPatients() {
  if (!sorted) return;
  const value = (row) => row.cells[sorted.column].dataset.value;
  const rows = [...patients.tBodies[0].rows].map((row) => ({ row, value: value(row) }));
  const compare = sorted.numbers ? (a, b) => a - b : letters.compare;
  rows.sort((a, b) => (a.value === "") - (b.value === "") || sorted.sign * compare(a.value, b.value));
  patients.tBodies[0].append(...rows.map((entry) => entry.row));
}

for (const button of patients.tHead.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), first = button.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of patients.tHead.querySelectorAll("[aria-sort]")) each.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    sorted = { column: head.cellIndex, numbers: first === "descending", sign: order === "ascending" ? 1 : -1 };
    sortPatients();
  });
}
