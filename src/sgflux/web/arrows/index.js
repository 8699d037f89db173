// Where the arrows of a scene graph run and where their predicates stand, in pixels of the canvas.
// An arrow is bent around the objects between its own two, and arrows of one pair are bent away from each other.
// A predicate stands on its arrow, or beside it, where it covers as little as possible.

const HEIGHT = 24; // of a predicate
const GAP = 5; // between a predicate and an object or another predicate
const HEAD = 18; // of an arrow, which must be seen
const AROUND = 44; // between two arrows of one pair
const SAMPLES = Array.from({ length: 21 }, (_, i) => i / 20);
const ROUNDS = 3; // in which each predicate makes room for those that were placed after it
const PLACES = [0.5, 0.43, 0.57, 0.36, 0.64, 0.29, 0.71, 0.22, 0.78, 0.15, 0.85]; // of a predicate on its arrow, the best first

const center = ({ x, y, w, h }) => ({ x: x + w / 2, y: y + h / 2 });
const inside = ({ x, y }, box, gap) => x > box.x - gap && x < box.x + box.w + gap && y > box.y - gap && y < box.y + box.h + gap;
const shared = (a, b, gap) => {
  const wide = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x) + gap;
  const high = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y) + gap;
  return wide > 0 && high > 0 ? wide * high : 0;
};
const side = (a, b, p) => Math.sign((b.x - a.x) * (p.y - a.y) - (b.y - a.y) * (p.x - a.x));
const crosses = (a, b, c, d) => side(a, b, c) !== side(a, b, d) && side(c, d, a) !== side(c, d, b);
const total = (all, cost) => all.reduce((sum, one) => sum + cost(one), 0);

function border(box, toward, gap) {
  const from = center(box);
  const [dx, dy] = [toward.x - from.x, toward.y - from.y];
  const scale = Math.min((box.w / 2 + gap) / (Math.abs(dx) || 1e-6), (box.h / 2 + gap) / (Math.abs(dy) || 1e-6));
  return { x: from.x + dx * scale, y: from.y + dy * scale };
}

function curve(from, to, offset) {
  const [a, b] = [center(from), center(to)];
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const normal = { x: -(b.y - a.y) / length, y: (b.x - a.x) / length };
  const middle = { x: (a.x + b.x) / 2 + normal.x * 2 * offset, y: (a.y + b.y) / 2 + normal.y * 2 * offset };
  const s = border(from, middle, 2), e = border(to, middle, 5);
  const at = (t) => ({
    x: (1 - t) ** 2 * s.x + 2 * t * (1 - t) * middle.x + t ** 2 * e.x,
    y: (1 - t) ** 2 * s.y + 2 * t * (1 - t) * middle.y + t ** 2 * e.y,
  });
  const points = SAMPLES.map(at);
  const way = total(points.slice(1).map((p, i) => Math.hypot(p.x - points[i].x, p.y - points[i].y)), (one) => one);
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  const bounds = { x, y, w: Math.max(...xs) - x, h: Math.max(...ys) - y };
  return { at, points, bounds, way, normal, path: `M${s.x},${s.y} Q${middle.x},${middle.y} ${e.x},${e.y}` };
}

/** The curve of each arrow, by its id. */
function curvesOf(boxes, arrows) {
  const curves = new Map();
  const straight = arrows.map(({ source, target }) => ({ ends: [source, target], line: [center(boxes[source]), center(boxes[target])] }));
  for (const { source: first, target: second } of arrows) {
    const pair = arrows.filter(({ source, target }) => [first, second].includes(source) && [first, second].includes(target));
    if (curves.has(pair[0].id)) continue;
    const others = Object.entries(boxes).filter(([id]) => id !== first && id !== second).map(([, box]) => box);
    const lines = straight.filter(({ ends }) => !ends.includes(first) || !ends.includes(second)).map(({ line }) => line);
    const { normal } = curve(boxes[first], boxes[second], 0);
    const widest = Math.max(...pair.map(({ width }) => width));
    const wanted = Math.abs(normal.x) * widest + Math.abs(normal.y) * HEIGHT + GAP; // by predicates side by side
    const distance = pair.length > 1 ? Math.min(Math.max(AROUND, wanted), 100) : AROUND;
    // of an arrow from its usual place, in such distances: more than there are arrows, so that one place is free
    const shifts = [0, ...Array.from({ length: pair.length + 2 }, (_, i) => [i + 1, -i - 1]).flat()];
    const taken = new Set();
    pair.forEach(({ id, source, target }, number) => {
      let best = { cost: Infinity };
      for (const shift of shifts) {
        const place = number - (pair.length - 1) / 2 + shift;
        if (taken.has(place)) continue;
        const found = curve(boxes[source], boxes[target], distance * place * (source === first ? 1 : -1));
        const hit = total(found.points, (point) => others.filter((box) => inside(point, box, 4)).length);
        const crossed = total([0, 5, 10, 15], (i) => lines.filter((line) => crosses(found.points[i], found.points[i + 5], ...line)).length);
        const cost = 10 * hit + 3 * Math.abs(shift) + 2 * crossed;
        if (cost < best.cost) best = { cost, place, found };
      }
      taken.add(best.place);
      curves.set(id, best.found);
    });
  }
  return curves;
}

/**
 * Lay out arrows and predicates.
 * @param boxes Object's id -> {x, y, w, h} of the object.
 * @param arrows List of {id, source, target, width}, with the width of the predicate.
 * @returns Arrow's id -> {path, x, y}: the arrow as SVG, and the middle of its predicate.
 */
export function layOut(boxes, arrows) {
  const curves = curvesOf(boxes, arrows);
  const all = Object.values(boxes);
  const routes = {};
  // a short arrow has the least choice
  const order = [...arrows].sort((a, b) => curves.get(a.id).way - curves.get(b.id).way);
  for (const { id, width } of Array(ROUNDS).fill(order).flat()) {
    const { at, way, normal, path } = curves.get(id);
    const [nx, ny] = [Math.abs(normal.x) || 1e-6, Math.abs(normal.y) || 1e-6];
    const covered = Math.min(width / ny, HEIGHT / nx); // of the arrow by a predicate on it
    const aside = (nx * width + ny * HEIGHT) / 2 + 4;
    const better = Math.sign(normal.x - normal.y) || 1;
    const standing = Object.entries(routes).filter(([other]) => other !== String(id)).map(([, one]) => one.box);
    let best = { cost: Infinity };
    for (const t of PLACES) {
      for (const away of [0, better * aside, -better * aside]) {
        const point = at(t);
        const [x, y] = [point.x + normal.x * away, point.y + normal.y * away];
        const box = { x: x - width / 2, y: y - HEIGHT / 2, w: width, h: HEIGHT };
        const hidesEnd = !away && ((1 - t) * way - covered / 2 < HEAD || t * way - covered / 2 < HEAD / 3);
        const under = ([other, { points, bounds }]) => (other !== id && shared(box, bounds, 4) ? points.filter((p) => inside(p, box, 2)).length : 0);
        const cost = 30 * Math.abs(t - 0.5) + (away ? 45 : 0) + (away === -better * aside ? 1 : 0) + (hidesEnd ? 70 : 0)
          + total([...all, ...standing], (one) => (shared(box, one, 0) ? 150 + shared(box, one, 0) / 10 : shared(box, one, GAP) && 15))
          + total([...curves], (other) => 4 * under(other));
        if (cost < best.cost) best = { cost, x, y, box };
      }
    }
    routes[id] = { path, x: best.x, y: best.y, box: best.box };
  }
  return routes;
}
