// Gallery page: any two crystals side by side, as pictures, and on request as views that turn. At most two live views
// exist at a time; their scripts are those of the notebooks' views and load with the first of them.
(function () {
  "use strict";
  const vendor = document.currentScript.src.replace(/gallery\.js.*$/, "vendor/");
  let loading = null;

  function loadScript(name, attributes) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      for (const [key, value] of Object.entries(attributes || {})) script.setAttribute(key, value);
      script.onload = resolve;
      script.onerror = () => reject(new Error(name + " could not be loaded"));
      script.src = vendor + name;
      document.head.append(script);
    });
  }

  function loadNGL() {
    loading = loading || loadScript("require.js")
      .then(() => loadScript("require-config.js"))
      .then(() => loadScript("embed-amd.js", { "data-jupyter-widgets-cdn": "about:blank" }))
      .then(() => new Promise((resolve, reject) => window.require(["nglview-js-widgets"], resolve, reject)))
      .then((module) => module.NGL);
    return loading;
  }

  async function draw(holder, scene) {
    const NGL = await loadNGL();
    const stage = new NGL.Stage(holder, {
      backgroundColor: "white", cameraType: "orthographic", clipDist: 0, clipNear: 0, fogNear: 60, fogFar: 100,
      tooltip: false,
    });
    const crystal = await stage.loadFile(new Blob([scene.pdb], { type: "text/plain" }), { ext: "pdb" });
    for (const [name, options] of scene.representations) crystal.addRepresentation(name, options);
    const cell = new NGL.Shape("cell");
    for (const [start, end, color, radius] of scene.edges) cell.addCylinder(start, end, color, radius);
    stage.addComponentFromObject(cell).addRepresentation("buffer");
    stage.viewerControls.orient(scene.orientation);
    return stage;
  }

  function element(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function makePane(number, items, pictures) {
    const name = "gallery-choice-" + number;
    const choice = element("select", { id: name },
      ...items.map((item, i) => element("option", { value: String(i), selected: i === number }, item.title)));
    const image = element("img", { className: "nanh2-paper dark-light" });
    const holder = element("div", { className: "nanh2-stage", hidden: true });
    const button = element("button", { type: "button", className: "nanh2-turn" });
    const status = element("p", { className: "nanh2-status" });
    status.setAttribute("role", "status");
    holder.setAttribute("role", "img");
    let live = false, stage = null, latest = 0;

    function dispose() {
      if (stage) {
        stage.viewer.renderer.forceContextLoss();
        stage.dispose();
      }
      stage = null;
      holder.replaceChildren();
    }

    async function show() {
      const item = items[choice.value], turn = ++latest;
      dispose();
      image.src = pictures[choice.value].src;
      image.alt = item.alt;
      image.hidden = live;
      holder.hidden = !live;
      holder.setAttribute("aria-label", item.alt);
      button.textContent = live ? "Show the picture" : "Turn it: live view";
      status.textContent = "";
      if (!live) return;
      try {
        const drawn = await draw(holder, item.scene);
        if (turn === latest) stage = drawn;
        else drawn.dispose();
      } catch (error) {
        live = false;
        await show();
        status.textContent = "The live view did not load: " + error.message;
      }
    }

    choice.addEventListener("change", show);
    button.addEventListener("click", () => { live = !live; show(); });
    window.addEventListener("resize", () => stage && stage.handleResize());
    const label = element("label", { htmlFor: name }, number ? "Second structure" : "First structure");
    show();
    return element("div", { className: "nanh2-pane" }, label, choice, image, holder, button, status);
  }

  function start() {
    const box = document.getElementById("gallery-compare");
    const data = document.getElementById("gallery-scenes");
    const pictures = document.querySelectorAll(".nanh2-cards img");
    if (!box || !data) return;
    const items = JSON.parse(data.textContent);
    box.append(...[0, 1].map((number) => makePane(number, items, pictures)));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
