(() => {
  const $ = (id) => document.getElementById(id);
  const missing = (text) => text === "" || text === "–" || text === undefined;
  const order = (column, number, down) => (a, b) => {
    const x = a.cells[column].dataset.v, y = b.cells[column].dataset.v;
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    return (number ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
  };

  // Sorting: a click on a heading, or (for the leaderboard) a choice. Groups of rows stay apart.
  const sort = (table, column, direction) => {
    const heads = [...table.tHead.rows[0].cells], head = heads[column];
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    const compare = order(column, head.dataset.sort === "number", direction === "descending");
    for (const body of table.tBodies)
      body.append(...[...body.rows].filter(row => !row.classList.contains("group")).sort(compare));
    for (const row of table.rows) for (const cell of row.cells) cell.classList.toggle("on", cell.cellIndex === column);
  };
  const first = head => head.dataset.sort === "number" && head.cellIndex > 1 ? "descending" : "ascending";
  const next = head => ({ descending: "ascending", ascending: "descending" })[head.getAttribute("aria-sort")] || first(head);
  for (const table of document.querySelectorAll("table.sortable"))
    for (const head of table.tHead.rows[0].cells)
      head.querySelector("button")?.addEventListener("click", () => sort(table, head.cellIndex, next(head)));

  // Long tables show their first rows until asked for all.
  for (const table of document.querySelectorAll("table.long, table.folding")) {
    const most = table.classList.contains("long") ? 40 : 25, count = table.tBodies[0].rows.length;
    if (count <= most) continue;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "more", textContent: `Show all ${count}` });
    button.addEventListener("click", () => {
      const whole = table.classList.toggle("whole");
      button.textContent = whole ? `Show the first ${most}` : `Show all ${count}`;
    });
    table.parentElement.after(button);
  }

  // The leaderboard's filters.
  const board = $("board"), heads = [...board.tHead.rows[0].cells], choice = $("sort");
  for (const head of heads) choice.append(new Option(head.querySelector("button").textContent, head.cellIndex));
  choice.value = 2;
  choice.addEventListener("change", () => sort(board, +choice.value, first(heads[choice.value])));
  const rows = [...board.querySelectorAll("tr[data-measure]")];
  const filter = () => {
    const words = $("filter").value.toLowerCase().split(/\s+/), family = $("family").value, kind = $("kind").value;
    let count = 0;
    for (const row of rows) {
      const text = row.cells[1].textContent.toLowerCase();
      const keep = words.every(word => text.includes(word)) && (!family || row.dataset.family === family)
        && (!kind || row.parentElement.dataset.kind === kind);
      row.hidden = !keep;
      count += keep;
    }
    for (const body of board.tBodies) body.hidden = ![...body.rows].some(row => row.dataset.measure && !row.hidden);
    const all = count === rows.length;
    board.classList.toggle("long", all);
    $("shown").textContent = all ? "" : count + " of " + rows.length;
  };
  const tools = document.querySelector(".tools");
  tools.hidden = false;
  tools.addEventListener("input", filter);
  tools.addEventListener("change", filter);
  tools.addEventListener("submit", event => event.preventDefault());

  // Cards: a link to one opens it; all open for printing.
  const cards = [...document.querySelectorAll("details.card")], unfold = $("unfold");
  const reveal = () => {
    const target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1)));
    const card = target && target.closest("details");
    if (card) { card.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
  unfold.hidden = false;
  unfold.addEventListener("click", () => {
    const open = unfold.textContent === "Open all";
    cards.forEach(card => { card.open = open; });
    unfold.textContent = open ? "Close all" : "Open all";
  });
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach(card => { card.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach(card => { card.open = false; }));

  // The map of measures by measures: what lies under the pointer.
  const map = $("alike"), image = map?.querySelector("image");
  if (image) {
    const names = map.dataset.names.split("\t"), codes = atob(map.dataset.bytes), size = names.length;
    map.addEventListener("pointermove", event => {
      const box = image.getBoundingClientRect();
      const row = Math.floor((event.clientY - box.top) / box.height * size);
      const column = Math.floor((event.clientX - box.left) / box.width * size);
      const inside = row >= 0 && row < size && column >= 0 && column < size;
      const code = inside ? codes.charCodeAt(row * size + column) : 0;
      $("pair").textContent = inside ? `${names[row]} × ${names[column]}: ${code ? "ρ = " + ((code - 128) / 100).toFixed(2) : "no correlation"}` : "";
    });
  }

  // Light or dark: the system's choice until the reader makes one.
  const theme = $("theme"), root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  theme.hidden = false;
  label();
})();
