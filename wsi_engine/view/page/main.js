// From the description of a result to its page.

import { json } from "./data.js";
import { Inspector } from "./inspector.js";
import { Nuclei } from "./nuclei.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { showScale } from "./scalebar.js";
import { Shading } from "./shading.js";
import { openSlide } from "./slide.js";

const $ = (id) => document.getElementById(id);
const FORMAT = 1;

async function start() {
  const message = $("message");
  message.textContent = "";
  try {
    const view = await json("view.json");
    if (view.format !== FORMAT) throw new Error("page and data are of different versions: export both again");
    show(view);
  } catch (error) {
    message.textContent = `The view cannot be shown: ${error.message}`;
  }
}

function show(view) {
  document.title = `${view.name} · wsi-engine`;
  const viewer = openSlide($("slide"), view);
  const nuclei = new Nuclei(view, () => panel.refresh());
  const shading = new Shading(view, nuclei);
  const overlay = new Overlay(viewer, view, nuclei, shading);
  const panel = new Panel(view, nuclei, shading, overlay);
  const inspector = new Inspector($("nucleus"), view, () => select(null));

  const failed = (error) => { $("message").textContent = `Some of the data cannot be read: ${error.message}`; };
  nuclei.load().catch(failed);
  overlay.outlines.load().catch(failed);
  json("regions.json").then((found) => {
    overlay.regions.set(found.regions);
    panel.showRegions(found);
    overlay.request();
  }, failed);

  function select(place) {
    overlay.regions.selected = null;
    if (place !== null) {
      const [x, y] = [nuclei.x[place], nuclei.y[place]];
      const radius = view.nuclei.diameter_um / view.mpp.x;
      overlay.regions.selected = { place, x, y, radius, outline: overlay.outlines.outlineOf(place, x, y) };
      inspector.show(nuclei.row[place]).catch(failed);
    }
    overlay.request();
  }

  function at(position) {
    const point = viewer.viewport.viewportToImageCoordinates(viewer.viewport.pointFromPixel(position));
    const { scale, ratio } = overlay.frame();
    const outlined = overlay.drawn.mode === "outlines" ? overlay.outlines.at(point.x, point.y, shading) : undefined;
    const place = outlined ?? nuclei.nearest(point.x, point.y, (8 * ratio) / scale, shading.places);
    return place < 0 ? null : place;
  }

  viewer.addHandler("canvas-click", (event) => {
    if (!event.quick || !overlay.visible) return;
    const place = at(event.position);
    if (place === null) inspector.close();
    else select(place);
  });
  viewer.addHandler("canvas-key", (event) => {
    if (["r", "R", "f", "F"].includes(event.originalEvent.key)) event.preventDefaultAction = true; // neither turns nor flips
  });
  viewer.addHandler("open-failed", () => failed(new Error("the slide")));
  overlay.told = (drawn, frame) => {
    showScale($("scale-line"), $("scale-text"), frame, view.mpp);
    panel.tellShare(drawn.share);
    const { selected } = overlay.regions;
    if (selected && !selected.outline && drawn.mode === "outlines") select(selected.place); // it has come
  };

  $("zoom-in").addEventListener("click", () => viewer.viewport.zoomBy(1.6));
  $("zoom-out").addEventListener("click", () => viewer.viewport.zoomBy(1 / 1.6));
  $("home").addEventListener("click", () => viewer.viewport.goHome());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") inspector.close();
    if (event.target.matches("input, select")) return;
    if (event.key === "n") panel.toggleNuclei();
  });
  $("slide").addEventListener("pointermove", (event) => {
    const { left, top } = $("slide").getBoundingClientRect();
    const { OpenSeadragon } = globalThis;
    const point = viewer.viewport?.pointFromPixel(new OpenSeadragon.Point(event.clientX - left, event.clientY - top));
    if (!point) return;
    const { x, y } = viewer.viewport.viewportToImageCoordinates(point);
    $("pointer").textContent = `x ${Math.round(x).toLocaleString("en")}  y ${Math.round(y).toLocaleString("en")}`;
  });
  // For the console, and for tests.
  globalThis.wsiView = { view, viewer, nuclei, shading, overlay, panel, inspector, select };
}

start();
