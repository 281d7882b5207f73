package qupath.lib.io

class ROI {
    List ring

    ROI(List ring) { this.ring = ring }

    private double sum(Closure term) {
        (0..<ring.size() - 1).sum { term(ring[it][0] as double, ring[it][1] as double, ring[it + 1][0] as double, ring[it + 1][1] as double) }
    }
    boolean isArea() { true }
    double getArea() { sum { a, b, c, d -> a * d - c * b } / 2 }
    double getCentroidX() { sum { a, b, c, d -> (a + c) * (a * d - c * b) } / (6 * getArea()) }
    double getCentroidY() { sum { a, b, c, d -> (b + d) * (a * d - c * b) } / (6 * getArea()) }
    double getBoundsX() { ring*.getAt(0).min() as double }
    double getBoundsY() { ring*.getAt(1).min() as double }
    double getBoundsWidth() { (ring*.getAt(0).max() as double) - getBoundsX() }
    double getBoundsHeight() { (ring*.getAt(1).max() as double) - getBoundsY() }
    boolean contains(double x, double y) {
        x >= getBoundsX() && x < getBoundsX() + getBoundsWidth() && y >= getBoundsY() && y < getBoundsY() + getBoundsHeight()
    }
}
