// Rows of channels with their pictures; see channel_list.py.

function made(tag, className, parent, text = "") {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    parent.append(element);
    return element;
}

function bar(parent, value, greatest, words) {
    const line = made("span", "nbhelpers-bar", parent);
    const width = greatest > 0 ? (100 * Math.abs(value)) / greatest : 0;
    const fill = made("span", value < 0 ? "nbhelpers-against" : "nbhelpers-for", line);
    fill.style.width = `${width}%`;
    made("span", "nbhelpers-bar-words", parent, words);
}

// A channel's page appears below all that is in sight: there, as soon as it is written.
function reveal(below) {
    if (!below) return;
    const scroll = () => below.scrollIntoView({ behavior: "smooth", block: "start" });
    const written = new MutationObserver(() => {
        written.disconnect();
        scroll();
    });
    written.observe(below, { childList: true, subtree: true });
    setTimeout(() => written.disconnect(), 5000); // it was written before
    scroll();
}

function render({ model, el }) {
    const list = made("ul", "nbhelpers-channels", el);
    const showPictures = () => {
        for (const image of list.querySelectorAll("img")) {
            const address = model.get("pictures")[image.dataset.channel];
            image.classList.toggle("nbhelpers-waiting", !address);
            if (address) image.src = address;
        }
    };
    const show = () => {
        const rows = model.get("rows");
        const strongest = Math.max(...rows.map((row) => Math.abs(row.strength)), 0);
        const most = Math.max(...rows.map((row) => Math.abs(row.share)), 0);
        const digits = most > 0 ? Math.min(20, Math.max(0, 1 - Math.floor(Math.log10(most)))) : 0; // two for the greatest
        list.replaceChildren();
        for (const row of rows) {
            const button = made("button", "nbhelpers-channel", made("li", "", list));
            const image = made("img", "", button);
            image.dataset.channel = row.channel;
            image.alt = `made picture of channel ${row.channel}`;
            const words = made("span", "nbhelpers-channel-words", button);
            made("b", "", words, `channel ${row.channel}`);
            bar(words, row.strength, strongest, `strength ${row.strength.toFixed(2)}`);
            bar(words, row.share, most, `${row.share < 0 ? "against" : "for"} it ${Math.abs(row.share).toFixed(digits)}`);
            for (const event of ["pointerenter", "focus"]) {
                button.addEventListener(event, () => model.send({ seen: row.channel }));
            }
            for (const event of ["pointerleave", "blur"]) {
                button.addEventListener(event, () => model.send({ seen: null }));
            }
            button.addEventListener("click", () => {
                model.send({ opened: row.channel });
                reveal(el.closest(".nbhelpers-explorer")?.querySelector(".nbhelpers-below"));
            });
        }
        showPictures();
    };
    model.on("change:rows", show);
    model.on("change:pictures", showPictures);
    show();
    return () => {
        model.off("change:rows", show);
        model.off("change:pictures", showPictures);
    };
}

export default { render };
