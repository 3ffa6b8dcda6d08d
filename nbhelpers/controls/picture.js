// A picture that enlarges, or lets a place be chosen; see picture.py.

const STEP = 0.05; // of the side, for an arrow key
const ARROWS = { ArrowUp: [-STEP, 0], ArrowDown: [STEP, 0], ArrowLeft: [0, -STEP], ArrowRight: [0, STEP] };

// The handle of an ipywidgets slider has no name of its own: it gets that of the label beside it.
function nameSliders(root) {
    for (const row of root.querySelectorAll(".widget-inline-hbox")) {
        const label = row.querySelector(".widget-label")?.textContent;
        if (!label) continue;
        for (const part of row.querySelectorAll(".noUi-handle, [contenteditable]")) {
            if (part.getAttribute("aria-label") === label) continue;
            part.setAttribute("aria-label", label);
            if (!part.hasAttribute("role")) part.setAttribute("role", "textbox");
        }
    }
    for (const bar of root.querySelectorAll(".progress:not([aria-label])")) {
        bar.setAttribute("role", "progressbar");
        bar.setAttribute("aria-label", "progress");
    }
}

function enlarge(image) {
    const dialog = document.createElement("dialog");
    dialog.className = "nbhelpers-enlarged";
    dialog.setAttribute("aria-label", image.alt);
    const large = image.cloneNode();
    large.className = "";
    const close = document.createElement("button");
    close.textContent = "Close";
    dialog.append(large, close);
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("keydown", (event) => event.stopPropagation());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
}

function download(name, bytes) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function render({ model, el }) {
    const frame = document.createElement("div");
    const image = document.createElement("img");
    const mark = document.createElement("span");
    frame.className = "nbhelpers-frame";
    frame.tabIndex = 0;
    frame.setAttribute("role", "button");
    image.className = "nbhelpers-picture";
    mark.className = "nbhelpers-mark";
    frame.append(image, mark);
    el.append(frame);

    const show = () => {
        URL.revokeObjectURL(image.src);
        frame.hidden = model.get("value").byteLength === 0;
        if (frame.hidden) image.removeAttribute("src");
        else image.src = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    };
    const tell = () => {
        image.alt = model.get("text");
        const does = model.get("picks") ? "Choose a place with click or arrow keys: " : "Enlarge: ";
        frame.setAttribute("aria-label", does + model.get("text"));
        frame.classList.toggle("nbhelpers-stale", model.get("stale"));
        frame.classList.toggle("nbhelpers-picks", model.get("picks"));
        mark.hidden = !model.get("picks");
        const [down, across] = model.get("place");
        mark.style.top = `${100 * down}%`;
        mark.style.left = `${100 * across}%`;
    };
    const choose = (down, across) => {
        model.set("place", [down, across].map((share) => Math.min(0.999, Math.max(0, share))));
        model.save_changes();
        tell();
    };
    frame.addEventListener("click", (event) => {
        if (!model.get("picks")) return enlarge(image);
        const box = image.getBoundingClientRect();
        choose((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
    });
    frame.addEventListener("keydown", (event) => {
        if (model.get("picks") && event.key in ARROWS) {
            const [down, across] = model.get("place");
            choose(down + ARROWS[event.key][0], across + ARROWS[event.key][1]);
        } else if (!model.get("picks") && (event.key === "Enter" || event.key === " ")) enlarge(image);
        else return;
        event.preventDefault();
        event.stopPropagation();
    });
    const hear = (message, buffers) => {
        if (message.download) download(message.download, buffers[0]);
        if (message.copy) navigator.clipboard?.writeText(message.copy).catch(() => {}); // it is shown as well
    };
    model.on("change:value", show);
    model.on("change:text change:stale change:picks change:place", tell);
    model.on("msg:custom", hear);
    show();
    tell();

    let watching;
    requestAnimationFrame(() => {
        const root = el.closest(".nbhelpers-player");
        if (!root) return;
        nameSliders(root);
        watching = new MutationObserver(() => nameSliders(root));
        watching.observe(root, { childList: true, subtree: true });
    });
    return () => {
        watching?.disconnect();
        URL.revokeObjectURL(image.src);
        model.off("change:value", show);
        model.off("change:text change:stale change:picks change:place", tell);
        model.off("msg:custom", hear);
    };
}

export default { render };
