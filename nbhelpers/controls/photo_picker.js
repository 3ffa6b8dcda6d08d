// A photo chosen by eye, uploaded, dropped, pasted, or taken with the camera; see photo_picker.py.

function made(tag, properties = {}, parent = null) {
    const element = Object.assign(document.createElement(tag), properties);
    parent?.append(element);
    return element;
}

async function camera(send) {
    const dialog = made("dialog", { className: "nbhelpers-camera" }, document.body);
    dialog.setAttribute("aria-label", "camera");
    const video = made("video", { autoplay: true, muted: true, playsInline: true }, dialog);
    const take = made("button", { textContent: "Take the photo" }, dialog);
    const cancel = made("button", { textContent: "Cancel" }, dialog);
    const said = made("p", {}, dialog);
    let stream;
    dialog.addEventListener("close", () => {
        stream?.getTracks().forEach((track) => track.stop());
        dialog.remove();
    });
    cancel.addEventListener("click", () => dialog.close());
    dialog.showModal();
    try {
        stream = await navigator.mediaDevices.getUserMedia({ video: true });
    } catch (error) {
        said.textContent = `No camera: ${error.message}. Allow it in the browser, or upload a photo.`;
        return;
    }
    video.srcObject = stream;
    take.addEventListener("click", () => {
        const canvas = made("canvas", { width: video.videoWidth, height: video.videoHeight });
        canvas.getContext("2d").drawImage(video, 0, 0);
        canvas.toBlob((blob) => send(new File([blob], "camera.png")), "image/png");
        dialog.close();
    });
}

const FRAME = 256; // pixels of a live frame's side

// The camera in the page, a frame at a time: the next one leaves when the kernel has seen the last.
function watch(model, group, button, send) {
    let video, stream, asked;
    const canvas = made("canvas", { width: FRAME, height: FRAME });
    const shoot = () => {
        const side = Math.min(video.videoWidth, video.videoHeight);
        const [left, top] = [(video.videoWidth - side) / 2, (video.videoHeight - side) / 2];
        canvas.getContext("2d").drawImage(video, left, top, side, side, 0, 0, FRAME, FRAME);
        return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
    };
    const next = async () => {
        if (!video?.videoWidth) return;
        const frame = await shoot();
        if (video) model.send({ frame: true }, undefined, [await frame.arrayBuffer()]);
    };
    const stop = async (keep) => {
        const last = keep && video?.videoWidth ? await shoot() : null;
        stream?.getTracks().forEach((track) => track.stop());
        model.off("msg:custom", asked);
        video?.remove();
        video = stream = undefined;
        button.textContent = "Live";
        button.setAttribute("aria-pressed", "false");
        if (last) send(new File([last], "camera.jpg"));
    };
    const start = async () => {
        button.textContent = "Stop";
        button.setAttribute("aria-pressed", "true");
        video = made("video", { className: "nbhelpers-live", autoplay: true, muted: true, playsInline: true }, group);
        video.setAttribute("aria-label", "camera");
        asked = (message) => message.next && next();
        try {
            stream = await navigator.mediaDevices.getUserMedia({ video: true });
        } catch (error) {
            await stop(false);
            model.set("complaint", `No camera: ${error.message}. Allow it in the browser, or upload a photo.`);
            return;
        }
        if (!video) return stream.getTracks().forEach((track) => track.stop()); // ended before the camera was there
        model.on("msg:custom", asked);
        video.addEventListener("loadeddata", next, { once: true });
        video.srcObject = stream;
    };
    button.addEventListener("click", () => (video ? stop(true) : start()));
    return () => stop(false);
}

function render({ model, el }) {
    const group = made("div", { className: "nbhelpers-photos" }, el);
    group.setAttribute("role", "group");
    group.tabIndex = 0;
    const label = made("label", { className: "nbhelpers-photos-label" }, group);
    const words = made("span", {}, label);
    const path = made("input", { type: "text" }, label);
    const strip = made("div", { className: "nbhelpers-photos-strip" }, group);
    const file = made("input", { type: "file", accept: "image/*", hidden: true }, group);
    const upload = made("button", { textContent: "Upload" }, group);
    const shoot = made("button", { textContent: "Camera" }, group);
    const live = made("button", { textContent: "Live", title: "the map over what the camera sees" }, group);
    live.setAttribute("aria-pressed", "false");
    made("small", { textContent: " or drop or paste a photo here" }, group);
    const complaint = made("p", { className: "nbhelpers-error" }, group);
    complaint.setAttribute("role", "alert");

    const choose = (value) => {
        model.set("value", value);
        model.save_changes();
    };
    const send = async (photo) => {
        if (photo && !model.get("disabled")) model.send({ upload: photo.name }, undefined, [await photo.arrayBuffer()]);
    };
    const show = () => {
        words.textContent = model.get("description");
        group.title = model.get("tooltip");
        group.setAttribute("aria-label", `${model.get("description")}: choose, upload, drop or paste a photo`);
        path.value = path.title = model.get("value");
        requestAnimationFrame(() => (path.scrollLeft = path.scrollWidth)); // the name is at the end
        complaint.textContent = model.get("complaint");
        live.hidden = !model.get("live");
        complaint.hidden = !model.get("complaint");
        for (const control of group.querySelectorAll("button, input")) control.disabled = model.get("disabled");
        for (const button of strip.children) {
            const chosen = button.dataset.path === model.get("value");
            button.setAttribute("aria-pressed", String(chosen));
            if (!chosen) continue;
            requestAnimationFrame(() => {
                strip.scrollLeft = button.offsetLeft + button.offsetWidth - strip.clientWidth;
            });
        }
    };
    const offer = () => {
        strip.replaceChildren(
            ...model.get("offered").map((photo) => {
                const button = made("button", { title: photo.name });
                button.dataset.path = photo.path;
                made("img", { src: photo.thumbnail, alt: photo.name }, button);
                button.addEventListener("click", () => choose(photo.path));
                return button;
            }),
        );
        show();
    };
    path.addEventListener("change", () => choose(path.value));
    path.addEventListener("keydown", (event) => event.stopPropagation());
    upload.addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
        send(file.files[0]);
        file.value = "";
    });
    shoot.addEventListener("click", () => camera(send));
    group.addEventListener("dragover", (event) => {
        event.preventDefault();
        event.stopPropagation();
    });
    group.addEventListener("drop", (event) => {
        event.preventDefault();
        event.stopPropagation();
        send(event.dataTransfer.files[0]);
    });
    group.addEventListener("paste", (event) => {
        if (event.clipboardData.files.length === 0) return;
        event.preventDefault();
        event.stopPropagation();
        send(event.clipboardData.files[0]);
    });
    const unwatch = watch(model, group, live, send);
    const changes = "change:live change:value change:description change:tooltip change:disabled change:complaint";
    model.on(changes, show);
    model.on("change:offered", offer);
    offer();
    return () => {
        unwatch();
        model.off(changes, show);
        model.off("change:offered", offer);
    };
}

export default { render };
