"use strict";
(() => {
  const table = document.getElementById("table");
  const [body, rest] = table.tBodies;
  const seen = body.rows.length;
  let rows = [...body.rows, ...rest.rows];
  let all = false;
  const filter = document.getElementById("filter");
  const matches = document.getElementById("matches");

  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    rest.hidden = !all && wanted === "";
    let count = 0;
    for (const row of rows) {
      row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
      count += !row.hidden;
    }
    matches.textContent = wanted ? `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
  });

  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = head.classList.contains("n");
      const key = (row) => {
        const text = row.cells[column].textContent.trim();
        if (!numeric) return text.toLowerCase();
        const value = parseFloat(text.replaceAll(",", ""));
        return Number.isNaN(value) ? null : value;
      };
      const keyed = rows.map((row) => [key(row), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
      });
      rows = keyed.map(([, row]) => row);
      body.replaceChildren(...rows.slice(0, seen));
      rest.replaceChildren(...rows.slice(seen));
    });
  });

  const everything = document.getElementById("all");
  everything?.addEventListener("click", () => {
    all = true;
    rest.hidden = false;
    everything.parentElement.hidden = true;
  });

  const unfold = () => {
    const target = location.hash.startsWith("#doc-") && document.getElementById(location.hash.slice(1));
    if (target) {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", unfold);
  unfold();

  addEventListener("beforeprint", () => {
    const folded = document.querySelectorAll("details.doc:not([open])");
    if (folded.length <= 60) folded.forEach((one) => (one.open = true));
  });
})();
