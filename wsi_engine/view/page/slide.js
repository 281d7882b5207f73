// The slide itself, with OpenSeadragon.

/** Opens the viewer; positions in its image are QuPath pixels. */
export function openSlide(element, view) {
  const { OpenSeadragon } = globalThis;
  return OpenSeadragon({
    element,
    tileSources: tileSource(OpenSeadragon, view),
    drawer: "canvas",
    navigatorDrawer: "canvas",
    showNavigationControl: false,
    showNavigator: view.slide !== null,
    navigatorPosition: "BOTTOM_RIGHT",
    navigatorAutoFade: false,
    navigatorOpacity: 1,
    navigatorSizeRatio: 0.16,
    navigatorBackground: "transparent",
    navigatorBorderColor: "transparent",
    navigatorDisplayRegionColor: "#5ec8b8",
    maxZoomPixelRatio: 16,
    minZoomImageRatio: 0.7,
    visibilityRatio: 0.3,
    animationTime: 0.5,
    springStiffness: 9,
    zoomPerScroll: 1.3,
    imageLoaderLimit: 8,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsTouch: { clickToZoom: false, pinchRotate: false },
    gestureSettingsPen: { clickToZoom: false },
  });
}

function tileSource(OpenSeadragon, view) {
  const { slide, width, height } = view;
  // Without the slide there are no tiles, but levels all the same: of few, each has very many.
  const tile = slide?.tile ?? 512;
  const halvings = slide?.halvings ?? 1 + Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / tile)));
  const source = new OpenSeadragon.TileSource({
    width,
    height,
    tileSize: tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: halvings - 1 - (slide?.finest ?? 0),
  });
  // The finest level that is there need not be that of the slide.
  source.getLevelScale = (level) => 2 ** (level - (halvings - 1));
  source.getTileUrl = (level, x, y) => `data/slide/${halvings - 1 - level}/${x}_${y}.jpg`;
  if (slide === null) source.tileExists = () => false;
  return source;
}
