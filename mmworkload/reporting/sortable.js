for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
    const numeric = head.classList.contains("n");
    // Numbers are of most interest where they are large; names begin with A.
    const first = numeric && index > 0 ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const value = row => numeric ? row.cells[index].dataset.v : row.cells[index].textContent;
    const compare = (a, b) => numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", {numeric: true});
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      // What is missing stays at the end.
      return (x === "") - (y === "") || sign * compare(x, y);
    });
    heads.forEach(item => item.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    body.append(...rows);
  }));
  const button = table.closest(".scroll").nextElementSibling.querySelector("button.csv");
  button.hidden = false;
  button.addEventListener("click", () => {
    // Numbers in full and in units of one, names quoted.
    const quoted = text => '"' + text.trim().replaceAll('"', '""') + '"';
    const cell = item => item.dataset.v === undefined ? quoted(item.textContent) : item.dataset.v;
    const lines = [heads.map(item => quoted(item.textContent)), ...[...body.rows].map(row => [...row.cells].map(cell))];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.map(line => line.join(",") + "\r\n").join("")], {type: "text/csv"}));
    link.download = table.dataset.name.replace(/[^A-Za-z0-9]+/g, "-") + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
