// What scrolls sideways can be reached by keyboard, and only that.
function reachable() {
  for (const block of document.querySelectorAll("pre, .table-wrapper, .cell_output, .cell_output .output, math[display=block]")) {
    if (block.scrollWidth > block.clientWidth + 1) block.tabIndex = 0;
    else block.removeAttribute("tabindex");
  }
}
addEventListener("load", reachable);
addEventListener("resize", reachable);
