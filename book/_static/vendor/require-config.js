// Tells RequireJS where the scripts and fonts of live views lie, so that no page asks a CDN for them.
(function () {
  "use strict";
  var base = document.currentScript.src.replace(/require-config\.js.*$/, "");
  // On file:// pages nglview's bundle takes the first <script> of the page as the place it was loaded from
  // and stops where that has no address. This inert one has.
  var anchor = document.createElement("script");
  anchor.type = "text/plain";
  anchor.src = base + "require-config.js";
  document.head.prepend(anchor);
  window.require.config({
    waitSeconds: 0, // the bundle is large: never give up on a slow disk
    paths: {
      "nglview-js-widgets": base + "nglview-js-widgets",
      // These modules are inside embed-amd.js; they look for their icon font beside their own address.
      "@jupyter-widgets": base + "widgets",
      "@jupyter-widgets/html-manager/dist": base + "widgets",
    },
  });
})();
