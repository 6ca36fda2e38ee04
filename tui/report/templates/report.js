"use strict";
(() => {
  const tables = [...document.querySelectorAll("table[data-sorts]")];
  const value = (row, column) => {
    const cell = row.cells[column];
    return (cell.dataset.value ?? cell.textContent).trim();
  };
  for (const table of tables) {
    const body = table.tBodies[0], rows = [...body.rows], headings = [...table.tHead.rows[0].cells];
    const sort = (column, down) => {
      const number = headings[column].classList.contains("num");
      const compare = (one, other) => {
        const [a, b] = [value(one, column), value(other, column)];
        // What is not known comes last in both orders.
        if (a === "" || b === "") return (a === "") - (b === "");
        return (number ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
      };
      body.append(...rows.sort(compare));
    };
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.ariaSort ? heading.ariaSort === "ascending" : column && heading.classList.contains("num");
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(column, down);
      });
    });
  }
  if (tables.length) {
    const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
    const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const field = document.getElementById("find"), found = document.getElementById("found");
    document.querySelector(".tools").hidden = false;
    const search = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => text.get(row).includes(word));
        count += !row.hidden;
      }
      found.textContent = words.length ? `${count} of ${rows.length}` : "";
    };
    field.addEventListener("input", search);
    search();
  }
  const closed = [];
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open], .more)")) {
      one.open = true;
      closed.push(one);
    }
  });
  addEventListener("afterprint", () => closed.splice(0).forEach((one) => (one.open = false)));
})();
