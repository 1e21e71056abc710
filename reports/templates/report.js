(() => {
  const board = document.getElementById("board"), body = board.tBodies[0], rows = [...body.rows];
  const value = (row, column) => row.cells[column].dataset.v;
  const order = (column, number, down) => (a, b) => {
    const x = value(a, column), y = value(b, column);
    if (x === "" || y === "" || x === "–" || y === "–") return (x === "" || x === "–") - (y === "" || y === "–");
    return (number ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
  };
  const heads = [...board.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const sort = () => {
      const first = head.dataset.sort === "number" && column > 1 ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort");
      const next = now === "descending" ? "ascending" : now === "ascending" ? "descending" : first;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      body.append(...rows.sort(order(column, head.dataset.sort === "number", next === "descending")));
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    });
  });
  const text = document.getElementById("filter"), family = document.getElementById("family");
  const controls = document.getElementById("controls"), shown = document.getElementById("shown");
  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/);
    let count = 0;
    for (const row of rows) {
      const name = (row.dataset.measure + " " + row.dataset.family).toLowerCase();
      const keep = words.every(word => name.includes(word)) && (!family.value || row.dataset.family === family.value)
        && (controls.checked || !row.classList.contains("control"));
      row.hidden = !keep;
      count += keep;
    }
    shown.textContent = count === rows.length ? "" : count + " of " + rows.length;
  };
  const tools = document.querySelector(".tools");
  tools.hidden = false;
  tools.addEventListener("input", filter);
  tools.addEventListener("submit", event => event.preventDefault());
})();
