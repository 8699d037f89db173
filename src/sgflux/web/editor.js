// The editor of a scene graph: Vue Flow draws and moves, this file says what a scene graph is.
// The browser tells Python its sketch after each change, with the number of the change; Python's sketch replaces it,
// unless the person has changed something since.
import { layOut } from "sgflux-arrows";
import { EdgeLabelRenderer, Handle, MarkerType, VueFlow, getTransformForBounds, useVueFlow } from "sgflux-vue-flow";
import { markRaw, nextTick } from "vue";

// as Python compares predicates: without blanks, and a copula before or an article behind does not matter
const compact = (words) => words.toLowerCase().replace(/\s+/g, "");
const bare = (words) => words.replace(/^(?:(?:is|are|was|were)\s+)+/, "").replace(/(?:\s+(?:an?|the))+$/, "");
const pen = document.createElement("canvas").getContext("2d");
const WIDEST = 180; // pixels of a predicate; a longer one is cut

globalThis.process ??= { env: { NODE_ENV: "production" } }; // Vue Flow asks for it

const template = `
<div class="sg-editor" :class="{ 'sg-linking': linking }" @keydown="onKey" @focusin="onFocus" @focusout="hasKeys = false">
  <div class="sg-tools" role="toolbar" aria-label="Tools of the scene graph">
    <form class="sg-add" @submit.prevent="addTyped">
      <input v-model="typed" :list="'names-' + editorId" placeholder="object, like dog"
             aria-label="Name of a new object" maxlength="60" autocomplete="off" />
      <datalist :id="'names-' + editorId"><option v-for="n in names" :value="n" /></datalist>
      <button type="submit" :disabled="!typed.trim()" aria-label="Add object">Add</button>
    </form>
    <span class="sg-space"></span>
    <button type="button" :disabled="!canUndo" @click="$emit('undo')" title="Undo (Ctrl+Z)">Undo</button>
    <button type="button" :disabled="!canRedo" @click="$emit('redo')" title="Redo (Ctrl+Y)">Redo</button>
    <button type="button" :disabled="empty" @click="clear">Clear</button>
  </div>
  <div class="sg-canvas" ref="canvas" tabindex="-1" @dblclick="onDoubleClick" @touchstart.capture="onTouchStart">
    <VueFlow :id="editorId" :zoom-on-scroll="false" :prevent-scrolling="false" :min-zoom="0.4"
             :zoom-on-double-click="false" :max-zoom="1.6" :delete-key-code="null"
             :connect-on-click="false" :is-valid-connection="isValid" connection-mode="loose"
             :multi-selection-key-code="null" :selection-key-code="null"
             @connect="onConnect" @node-drag-stop="tell" @node-double-click="(e) => rename(e.node.id)"
             @connect-start="onConnectStart" @connect-end="onConnectEnd" @node-click="onNodeClick"
             @pane-click="closeAll" @nodes-initialized="fit">
      <template #node-object="{ id, data }">
        <div class="sg-node" :class="{ 'sg-from': from === id }" :title="labels[id] + ': ' + hint">
          <input v-if="renaming === id" class="sg-rename nodrag" v-model="data.name" maxlength="60"
                 :list="'names-' + editorId" aria-label="Name of the object"
                 @keydown.enter.stop.prevent="endRename(true)" @keydown.esc.stop="endRename(false)"
                 @blur="endRename(true)" />
          <template v-else>
            <span>{{ labels[id] }}</span>
            <button type="button" class="sg-delete nodrag" :aria-label="'Delete object ' + labels[id]" @click.stop="removeObject(id)"></button>
          </template>
          <Handle id="out" type="source" position="right" class="sg-dot" />
          <Handle id="in" type="target" position="left" class="sg-cover" :connectable-start="false" />
        </div>
      </template>
      <template #edge-statement="edge">
        <g>
          <path :d="routes[edge.id]?.path" class="sg-hit" />
          <path :d="routes[edge.id]?.path" class="sg-line" :marker-end="edge.markerEnd" />
        </g>
        <EdgeLabelRenderer>
          <button type="button" class="sg-predicate nodrag nopan" :class="{ 'sg-open': popup?.id === edge.id }"
                  :style="{ transform: 'translate(-50%,-50%) translate(' + routes[edge.id]?.x + 'px,' + routes[edge.id]?.y + 'px)', maxWidth: '${WIDEST}px' }"
                  :data-edge="edge.id" :title="edge.data.predicate" :aria-label="spoken(edge) + '. Press to change.'"
                  @click.stop="openPopup(edge.id)">{{ edge.data.predicate }}</button>
        </EdgeLabelRenderer>
      </template>
    </VueFlow>
    <p v-if="empty" class="sg-empty">Add two objects, then drag from the dot of one to the other.</p>
    <div v-if="popup" class="sg-popup" role="dialog" aria-label="Predicate" :style="popup.style" @keydown="onPopupKey">
      <input ref="search" v-model="popup.query" placeholder="search predicates" aria-label="Search predicates"
             role="combobox" aria-expanded="true" @input="popup.at = 0" />
      <ul role="listbox" ref="list">
        <li v-for="(one, i) in matches" :key="one.name" role="option" :aria-selected="i === popup.at"
            :class="{ 'sg-at': i === popup.at }" @mousedown.prevent @click="choose(one.name)">
          <span>{{ one.name }}</span><small>{{ one.hint }}</small>
        </li>
        <li v-if="!matches.length" class="sg-none">No predicate is called that.</li>
      </ul>
      <div class="sg-popup-foot">
        <button type="button" @click="swap" aria-label="Swap direction">Swap ⇄</button>
        <button type="button" @click="remove">Delete</button>
      </div>
    </div>
  </div>
  <p class="sg-status" role="status">{{ status }}</p>
</div>`;

export default {
  template,
  components: { EdgeLabelRenderer, Handle, VueFlow },
  props: {
    editorId: String,
    sketch: Object,
    predicates: Array, // {name, aliases, wordings}
    names: Array,
    open: Boolean, // whether any word is a predicate
    canUndo: Boolean,
    canRedo: Boolean,
  },
  emits: ["change", "undo", "redo"],
  setup: (props) => ({ flow: markRaw(useVueFlow({ id: props.editorId })) }),
  data: () => ({ typed: "", renaming: null, before: "", from: null, linking: null, popup: null, count: 0, fits: true, changes: 0, told: "", gone: -Infinity, hasKeys: false, tap: { time: -Infinity } }),
  mounted() {
    const { change, nodes, edges } = this.sketch;
    this.changes = change;
    this.show({ nodes, edges });
  },
  watch: {
    sketch({ change, nodes, edges }) {
      // An answer to an earlier change knows nothing of the later ones.
      if (change === this.changes && JSON.stringify({ nodes, edges }) !== this.told) this.show({ nodes, edges });
    },
    width(_, before) {
      if (!before) return;
      this.fits = true; // a telephone was turned, or a window was narrowed
      nextTick(this.fit);
    },
  },
  computed: {
    nodes() {
      return this.flow.nodes.value;
    },
    edges() {
      return this.flow.edges.value;
    },
    boxes() {
      const boxOf = ({ id, dimensions, computedPosition: { x, y } }) => [id, { x, y, w: dimensions.width || 80, h: dimensions.height || 36 }];
      return Object.fromEntries(this.nodes.map(boxOf));
    },
    routes() {
      pen.font = `13.2px ${getComputedStyle(document.body).fontFamily}`;
      const widthOf = (predicate) => Math.min(pen.measureText(predicate).width + 18, WIDEST); // as page.css has it
      const { boxes } = this;
      const whole = this.edges.filter(({ source, target }) => boxes[source] && boxes[target]); // not while objects are replaced
      return layOut(boxes, whole.map(({ id, source, target, data }) => ({ id, source, target, width: widthOf(data.predicate) })));
    },
    width() {
      return this.flow.dimensions.value.width;
    },
    empty() {
      return this.nodes.length === 0;
    },
    labels() {
      // the later ones of equal names are called dog#2, dog#3, as in a graph's text
      const seen = {};
      return Object.fromEntries(
        this.nodes.map((node) => {
          const key = node.data.name.toLowerCase();
          seen[key] = (seen[key] ?? 0) + 1;
          return [node.id, seen[key] === 1 ? node.data.name : `${node.data.name}#${seen[key]}`];
        }),
      );
    },
    hint: () => "drag to move. Drag the dot to another object, or click both, to relate them. Double-click to rename.",
    status() {
      if (this.from) return `Choose what “${this.labels[this.from]}” is related to, or press Escape.`;
      if (this.hasKeys) return "Enter renames, C relates to another object, the arrow keys move, Delete removes.";
      if (matchMedia("(pointer: coarse)").matches)
        return "Tap an object’s dot, then another object, to relate them. Tap the word on an arrow to change, swap or delete it. Double-tap: new object or rename.";
      return "Drag from an object’s dot to another object to relate them. Click the word on an arrow to change, swap or delete it. Double-click: new object or rename.";
    },
    matches() {
      const query = (this.popup?.query ?? "").trim().toLowerCase();
      let found = this.search(query, ({ aliases }) => aliases);
      if (!found.length) found = this.search(bare(query), ({ aliases, wordings }) => [...aliases, ...wordings]);
      if (this.open && query && !this.predicates.some((one) => one.name === query))
        found.push({ name: query, hint: "any word" });
      return found;
    },
  },
  methods: {
    search(query, wordsOf) {
      const key = compact(query);
      const found = [];
      for (const one of this.predicates) {
        const { name, aliases } = one;
        const word = wordsOf(one).find((other) => compact(other).includes(key));
        if (compact(name).includes(key)) found.push({ name, hint: aliases.slice(0, 2).join(", "), rank: compact(name).startsWith(key) ? 0 : 1 });
        else if (word) found.push({ name, hint: word, rank: compact(word).startsWith(key) ? 1 : 2 });
      }
      return found.sort((a, b) => a.rank - b.rank);
    },
    read() {
      return {
        nodes: this.nodes.map(({ id, position, data }) => ({ id, name: data.name, x: position.x, y: position.y })),
        edges: this.edges.map(({ source, target, data }) => ({ source, predicate: data.predicate, target })),
      };
    },
    show(sketch) {
      this.closeAll();
      this.told = JSON.stringify(sketch);
      // Another object may have the id, and so the element, of one that is gone.
      const names = new Map(this.nodes.map(({ id, data }) => [id, data.name]));
      this.fits = !sketch.nodes.length || sketch.nodes.some(({ id, name }) => names.get(id) !== name);
      // Vue Flow tells nothing of elements that it has measured before; the new names are measured by then.
      if (sketch.nodes.every(({ id }) => names.has(id))) setTimeout(this.fit, 50);
      this.flow.setNodes(
        sketch.nodes.map(({ id, name, x, y }) => ({ id, type: "object", position: { x, y }, data: { name } })),
      );
      this.flow.setEdges(sketch.edges.map((edge) => this.edgeOf(edge)));
    },
    edgeOf({ source, predicate, target }) {
      return {
        id: `e${++this.count}`, source, target, sourceHandle: "out", targetHandle: "in", type: "statement",
        focusable: false, data: { predicate }, markerEnd: { type: MarkerType.ArrowClosed, color: "var(--sg-line)", width: 18, height: 18 },
      };
    },
    fit() {
      if (this.fits && this.nodes.length) {
        const shown = [...Object.values(this.boxes), ...Object.values(this.routes).map((one) => one.box)];
        const [x, y] = [Math.min(...shown.map((one) => one.x)), Math.min(...shown.map((one) => one.y))];
        const [right, bottom] = [Math.max(...shown.map((one) => one.x + one.w)), Math.max(...shown.map((one) => one.y + one.h))];
        const { width, height } = this.flow.dimensions.value;
        this.flow.setViewport(getTransformForBounds({ x, y, width: right - x, height: bottom - y }, width, height, 0.4, 1, 0.1));
      }
      this.fits = false;
    },
    tell() {
      const sketch = this.read();
      this.told = JSON.stringify(sketch);
      this.$emit("change", sketch, ++this.changes);
    },
    spoken(edge) {
      return `${this.labels[edge.source]} ${edge.data.predicate} ${this.labels[edge.target]}`;
    },

    // --- objects -------------------------------------------------------------------------------
    addTyped() {
      if (!this.typed.trim()) return;
      this.add(this.typed.trim());
      this.typed = "";
    },
    add(name, at) {
      let number = 1;
      while (this.flow.findNode(`n${number}`)) number++;
      const id = `n${number}`;
      this.flow.addNodes({ id, type: "object", position: at ?? this.freePlace(), data: { name: name.replace(/\s*#\s*\d+$/, "") } });
      if (name) nextTick(this.tell);
      return id;
    },
    freePlace() {
      const { x, y, zoom } = this.flow.viewport.value;
      const { width, height } = this.$refs.canvas.getBoundingClientRect();
      const spots = [];
      for (let row = 0; row < 12; row++)
        for (let column = 0; column < 2; column++)
          spots.push({ x: (width * (0.12 + 0.52 * column) - x) / zoom, y: (height * (0.14 + 0.3 * row + 0.14 * column) - y) / zoom });
      const far = (spot) => this.nodes.every(({ position: p }) => Math.abs(p.x - spot.x) > 110 || Math.abs(p.y - spot.y) > 55);
      return spots.find(far) ?? spots[0];
    },
    onTouchStart(event) {
      // Vue Flow would zoom at a second tap, and the browser would send no double click
      if (event.touches.length > 1) return; // two fingers zoom
      const { clientX: x, clientY: y } = event.touches[0];
      const { tap } = this;
      this.tap = { x, y, time: event.timeStamp };
      const isSecond = event.timeStamp - tap.time < 500 && Math.hypot(x - tap.x, y - tap.y) < 20;
      if (isSecond && !event.target.classList.contains("sg-dot")) event.stopPropagation();
    },
    onDoubleClick(event) {
      if (!event.target.classList.contains("vue-flow__pane")) return;
      if (event.timeStamp - this.gone < 500) return; // the first click was on the × of an object
      const at = this.flow.screenToFlowCoordinate({ x: event.clientX - 40, y: event.clientY - 18 });
      this.rename(this.add("", at));
    },
    rename(id) {
      this.closeAll();
      this.renaming = id;
      this.before = this.flow.findNode(id).data.name;
      nextTick(this.focusName);
    },
    focusName() {
      const field = this.$el.querySelector(".sg-rename");
      field?.focus();
      field?.select();
      // A new object is hidden, and takes no focus, until Vue Flow has measured it.
      if (field && field !== document.activeElement) requestAnimationFrame(this.focusName);
    },
    endRename(keep) {
      const id = this.renaming;
      if (!id) return;
      this.renaming = null;
      const { data } = this.flow.findNode(id);
      data.name = (keep ? data.name : this.before).replace(/\s*#\s*\d+$/, "").replace(/\s+/g, " ").trim() || this.before;
      if (!data.name) this.flow.removeNodes([id]);
      nextTick(() => {
        this.focusNode(id);
        if (data.name !== this.before) this.tell();
      });
    },
    focusNode(id) {
      this.$el.querySelector(`.vue-flow__node[data-id="${id}"]`)?.focus({ preventScroll: true });
    },
    removeObject(id) {
      this.flow.removeNodes([id]);
      this.gone = performance.now();
      this.toCanvas();
    },
    clear() {
      this.flow.setEdges([]);
      this.flow.setNodes([]);
      this.closeAll();
      this.tell();
    },

    // --- statements ----------------------------------------------------------------------------
    isValid: ({ source, target }) => source !== target,
    onConnectStart({ nodeId }) {
      const from = this.from;
      this.closeAll();
      this.from = from;
      this.linking = nodeId;
    },
    onConnectEnd(event) {
      const id = this.linking;
      this.linking = null;
      if (event.changedTouches && event.cancelable) event.preventDefault(); // a browser would send a click of a mouse as well
      const { clientX, clientY } = event.changedTouches?.[0] ?? event;
      const isClick = id && id === document.elementFromPoint(clientX, clientY)?.closest(".vue-flow__node")?.dataset.id;
      if (isClick && this.from && this.from !== id) this.link(this.from, id);
      else this.from = isClick ? id : null;
    },
    onConnect({ source, target, sourceHandle }) {
      this.linking = null;
      // a line that was dragged from the receiving side still leaves the object where it began
      const [a, b] = sourceHandle === "in" ? [target, source] : [source, target];
      this.link(a, b);
    },
    startLink(id) {
      this.popup = null;
      this.from = id;
    },
    onNodeClick({ node }) {
      if (this.from && this.from !== node.id) this.link(this.from, node.id);
    },
    link(source, target) {
      this.from = null;
      if (source === target) return;
      const taken = this.edges.filter((e) => e.source === source && e.target === target).map((e) => e.data.predicate);
      const { name } = this.predicates.find((one) => !taken.includes(one.name));
      const edge = this.edgeOf({ source, predicate: name, target });
      this.flow.addEdges([edge]);
      nextTick(() => {
        this.tell();
        this.openPopup(edge.id);
      });
    },
    openPopup(id) {
      this.closeAll();
      const label = this.$el.querySelector(`[data-edge="${id}"]`)?.getBoundingClientRect();
      const area = this.$refs.canvas.getBoundingClientRect();
      if (!label) return;
      const left = Math.max(6, Math.min(label.left - area.left, area.width - 246));
      const top = label.bottom - area.top + 6; // it may reach beyond the canvas
      const current = this.flow.findEdge(id).data.predicate;
      this.popup = { id, query: "", at: Math.max(0, this.predicates.findIndex((one) => one.name === current)), style: { left: `${left}px`, top: `${top}px` } };
      nextTick(() => {
        this.$refs.search?.focus({ preventScroll: true });
        this.scrollList();
      });
    },
    scrollList() {
      nextTick(() => this.$refs.list?.querySelector(".sg-at")?.scrollIntoView({ block: "nearest" }));
    },
    onPopupKey(event) {
      event.stopPropagation();
      const last = this.matches.length - 1;
      if (event.key === "ArrowDown") this.popup.at = Math.min(last, this.popup.at + 1);
      else if (event.key === "ArrowUp") this.popup.at = Math.max(0, this.popup.at - 1);
      else if (event.key === "Escape") return this.closePopup();
      else if (event.key === "Enter" && event.target.tagName === "INPUT" && last >= 0) this.choose(this.matches[this.popup.at].name);
      else return;
      event.preventDefault();
      this.scrollList();
    },
    closePopup() {
      const id = this.popup?.id;
      this.popup = null;
      nextTick(() => this.focusLabel(id));
    },
    focusLabel(id) {
      this.$el.querySelector(`[data-edge="${id}"]`)?.focus({ preventScroll: true });
    },
    choose(predicate) {
      const edge = this.flow.findEdge(this.popup.id);
      const twice = this.edges.some((e) => e !== edge && e.source === edge.source && e.target === edge.target && e.data.predicate === predicate);
      if (twice) this.flow.removeEdges([edge.id]);
      else edge.data.predicate = predicate;
      this.closePopup();
      nextTick(this.tell);
    },
    swap() {
      const edge = this.flow.findEdge(this.popup.id);
      this.popup = null;
      this.turn(edge);
    },
    turn(edge) {
      const turned = this.edgeOf({ source: edge.target, predicate: edge.data.predicate, target: edge.source });
      const rest = this.edges.map((e) => (e.id === edge.id
        ? turned
        : this.edgeOf({ source: e.source, predicate: e.data.predicate, target: e.target })));
      this.flow.setEdges(rest);
      nextTick(() => {
        this.tell();
        this.focusLabel(turned.id);
      });
    },
    remove() {
      this.flow.removeEdges([this.popup.id]);
      this.popup = null;
      this.toCanvas();
    },
    toCanvas() {
      this.from = null; // it may be gone
      // what had the focus is gone; undo is still wanted here
      this.$refs.canvas.focus({ preventScroll: true });
      nextTick(this.tell);
    },
    closeAll() {
      this.popup = null;
      this.from = null;
      if (this.renaming) this.endRename(true);
    },

    // --- keyboard ------------------------------------------------------------------------------
    onFocus({ target }) {
      this.hasKeys = target.matches(".vue-flow__node:focus-visible"); // a click gives the focus, too
    },
    onKey(event) {
      const key = event.key.toLowerCase();
      if (event.target.tagName === "INPUT") return;
      if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
        event.preventDefault();
        this.$emit(key === "y" || event.shiftKey ? "redo" : "undo");
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const id = event.target.closest?.(".vue-flow__node")?.dataset.id;
      const edge = event.target.dataset?.edge;
      const removes = key === "delete" || key === "backspace";
      if (key === "escape") this.closeAll();
      else if (edge && removes) {
        this.flow.removeEdges([edge]);
        this.toCanvas();
      } else if (edge && key === "s") this.turn(this.flow.findEdge(edge));
      else if (id && removes) this.removeObject(id);
      else if (event.target.tagName === "BUTTON") return;
      else if (id && key === "c") this.startLink(id);
      else if (id && (key === "enter" || key === "f2")) {
        if (this.from && this.from !== id) this.link(this.from, id);
        else this.rename(id);
      } else if (id && key.startsWith("arrow")) return void setTimeout(this.tell, 0); // Vue Flow moves it
      else return;
      event.preventDefault();
    },
  },
};
