// The picture to click on. Gradio replaces what is inside of `element` whenever the picture changes.
const place = (stage) => {
  const { width, height, row, column, side } = Object.fromEntries(
    Object.entries(stage.dataset).map(([name, value]) => [name, Number(value)]));
  if (Number.isNaN(row)) return;
  const within = (at, size, length) => Math.min(Math.max(at - Math.floor(size / 2), 0), Math.max(length - size, 0));
  const [dot, square] = [stage.querySelector(".dot"), stage.querySelector(".square")];
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(dot.style, {
    display: "block", left: percent(column + 0.5, width), top: percent(row + 0.5, height) });
  Object.assign(square.style, {
    display: side ? "block" : "none",
    left: percent(within(column, side, width), width), top: percent(within(row, side, height), height),
    width: percent(Math.min(side, width), width), height: percent(Math.min(side, height), height) });
};
const choose = (stage, row, column) => {
  const { width, height } = stage.dataset;
  stage.dataset.row = Math.min(Math.max(row, 0), height - 1);
  stage.dataset.column = Math.min(Math.max(column, 0), width - 1);
  place(stage);
  trigger("select", { row: Number(stage.dataset.row), column: Number(stage.dataset.column) });
};
element.addEventListener("click", (event) => {
  const stage = event.target.closest(".stage");
  if (!stage) return;
  const box = stage.getBoundingClientRect();
  choose(stage,
    Math.floor(((event.clientY - box.top) / box.height) * stage.dataset.height),
    Math.floor(((event.clientX - box.left) / box.width) * stage.dataset.width));
});
element.addEventListener("keydown", (event) => {
  const stage = event.target.closest(".stage");
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!stage || !step) return;
  event.preventDefault();
  const far = event.shiftKey ? 10 : 1;
  choose(stage, Number(stage.dataset.row) + far * step[0], Number(stage.dataset.column) + far * step[1]);
});
element.addEventListener("square", (event) => place(event.target));
const placeAll = () => element.querySelectorAll(".stage").forEach(place);
watch("value", placeAll);
placeAll();
