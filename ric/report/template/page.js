"use strict";
(() => {
  const data = JSON.parse(document.getElementById("gallery").textContent);
  const AT_ONCE = 20; // rows of a page
  const EXTREMES = 5;
  const SMALL = 160; // pixels: up to this a picture is enlarged without smoothing
  // what to sort by at first: the first of these that samples have
  const FIRST = ["region_error", "lpips", "clip_i", "l1"];
  const NAMES = {
    region_text: "Region text", explicit_instruction: "Explicit instruction",
    scene_text: "Scene text", target_text: "Target caption", source_text: "Source caption",
  };
  const texts = Object.keys(NAMES).filter((key) => data.texts[key]);
  const byId = (id) => document.getElementById(id);
  const count = data.ids.length;
  const has = {
    types: new Set(data.types.filter(Boolean)).size > 1,
    // groups of --group-by editing-type are the types once more
    groups: new Set(data.groups.filter(Boolean)).size > 1
      && data.groups.some((group, at) => group !== data.types[at]),
    metrics: data.metrics.length > 0,
    arms: data.metrics.length > 0 && data.arms.length > 1,
    masks: Boolean(data.pictures.masks),
  };
  // the pictures of a sample, in their order: [kind, label, place among the arms or -1]
  const kinds = [["source", "Source", -1]];
  data.arms.forEach((label, place) => kinds.push([`arm${place}`, label, place]));
  kinds.push(["target", data.target, -1]);
  const shown = kinds.filter(([kind]) => data.pictures[kind]);
  let order = [], page = 0, current = -1, position = 50;

  // Texts of the data become text nodes, never markup.
  const make = (tag, about = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(about)) {
      if (key === "text") element.textContent = value;
      else if (key === "class") element.className = value;
      else if (value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const pictureOf = (kind, number) => (data.pictures[kind] ? data.pictures[kind][number] : null);
  const isSmall = (number) => Math.max(...data.sizes[number]) <= SMALL;
  const imageOf = (kind, number, alt, lazy = true) => make("img", {
    src: pictureOf(kind, number), alt, width: data.sizes[number][0], height: data.sizes[number][1],
    loading: lazy ? "lazy" : null, decoding: "async", class: isSmall(number) ? "sharp" : null,
  });
  const scoreOf = (place, key, number) => (place < 0 || !key ? null : data.scores[place][key][number]);
  const metricOf = (key) => data.metrics.find((metric) => metric.key === key);
  const inDigits = (value, metric) => (value === null ? "" : value.toFixed(metric.digits));
  const grouped = (number) => number.toLocaleString("en");

  // --- which samples, in which order ---------------------------------------------------------
  let haystacks = null;
  const haystack = (number) => {
    haystacks ||= data.ids.map((id, at) => [
      id, data.instructions[at], ...Object.values(data.texts).map((texts) => texts[at] || ""),
    ].join("\n").toLowerCase());
    return haystacks[number];
  };
  const chosen = () => ({
    words: byId("search").value.toLowerCase().split(/\s+/).filter(Boolean),
    type: byId("type").value,
    group: byId("group").value,
    metric: byId("metric").value,
    arm: Number(byId("arm").value || 0),
    order: document.querySelector("input[name=order]:checked").value,
  });
  const isWanted = (number, { words, type, group }) =>
    (!type || data.types[number] === type) && (!group || data.groups[number] === group)
    && words.every((word) => haystack(number).includes(word));
  const sorted = (numbers, { metric, arm }, best) => {
    if (!metric) return numbers;
    const values = data.scores[arm][metric];
    const sign = metricOf(metric).up === best ? -1 : 1;
    // samples without the score come last, equal ones as in the data
    return numbers.slice().sort((a, b) => {
      if (values[a] === null || values[b] === null) {
        return (values[a] === null) - (values[b] === null) || a - b;
      }
      return sign * (values[a] - values[b]) || a - b;
    });
  };
  const choose = () => {
    const now = chosen();
    const wanted = [];
    for (let number = 0; number < count; number += 1) {
      if (isWanted(number, now)) wanted.push(number);
    }
    order = now.order === "data" ? wanted : sorted(wanted, now, now.order === "best");
    page = 0;
    showExtremes(wanted, now);
    showPage();
  };

  // --- the list --------------------------------------------------------------------------------
  const tile = (kind, label, place, number, now) => {
    const value = inDigits(scoreOf(place, now.metric, number), metricOf(now.metric) || {});
    const [width, height] = data.sizes[number];
    const frame = make("div", { class: "frame" });
    if (pictureOf(kind, number)) {
      frame.append(imageOf(kind, number, `${label}: ${data.instructions[number]}`));
      if (pictureOf("masks", number)) {
        const masks = imageOf("masks", number, "");
        masks.classList.add("masks");
        frame.append(masks);
      }
    } else {
      frame.classList.add("none");
      frame.style.aspectRatio = `${width} / ${height}`;
      frame.append("no picture");
    }
    const caption = make("figcaption", {}, make("span", { text: label, title: label }));
    if (value) caption.append(make("b", { text: value }));
    const figure = make("figure", { "data-kind": kind }, frame, caption);
    if (place >= 0 && place === now.arm && now.metric) figure.classList.add("sorted");
    return figure;
  };
  const maskTile = (number) => {
    if (!pictureOf("masks", number)) return null;
    const frame = make("div", { class: "frame always" });
    frame.append(imageOf("source", number, ""), imageOf("masks", number, "Mask and context mask"));
    frame.lastChild.classList.add("masks");
    return make("figure", { "data-kind": "masks" }, frame,
      make("figcaption", {}, make("span", { text: "Masks" })));
  };
  const said = (number, key) => make("p", { class: "said" },
    make("b", { text: `${NAMES[key]}: ` }), data.texts[key][number]);
  const aboutOf = (number) =>
    [data.ids[number], data.types[number], has.groups ? data.groups[number] : null]
      .filter(Boolean).join(" · ");
  const row = (number, now) => {
    const words = data.instructions[number] || "Compare";
    const about = make("div", {}, make("p", { class: "about", text: aboutOf(number) }),
      make("button", { type: "button", class: "instruction", text: words }));
    for (const key of texts) {
      if (data.texts[key][number]) about.append(said(number, key));
    }
    const pictures = make("div", { class: "pictures" },
      ...shown.map(([kind, label, place]) => tile(kind, label, place, number, now)),
      maskTile(number));
    return make("li", { "data-number": number }, about, pictures);
  };
  const showPage = () => {
    const now = chosen();
    const start = page * AT_ONCE;
    const some = order.slice(start, start + AT_ONCE);
    byId("rows").replaceChildren(...some.map((number) => row(number, now)));
    const of = order.length === count ? grouped(count) : `${grouped(order.length)} of ${grouped(count)}`;
    byId("count").textContent = order.length ? `${of} samples` : "No sample matches.";
    const pages = Math.ceil(order.length / AT_ONCE);
    document.querySelector(".pager").hidden = pages < 2;
    byId("page").textContent = some.length
      ? `${grouped(start + 1)} to ${grouped(start + some.length)} of ${grouped(order.length)}` : "";
    byId("back").disabled = page === 0;
    byId("next").disabled = page >= pages - 1;
  };
  const turn = (by) => {
    page += by;
    showPage();
    byId("tools").scrollIntoView();
    document.querySelector("#rows button")?.focus({ preventScroll: true });
  };
  const showExtremes = (wanted, now) => {
    const place = byId("extremes");
    place.hidden = !now.metric || wanted.length < 2 * EXTREMES;
    if (place.hidden) return;
    const metric = metricOf(now.metric);
    const held = wanted.filter((number) =>
      scoreOf(now.arm, now.metric, number) !== null && pictureOf(`arm${now.arm}`, number));
    const strip = (title, best) => {
      const some = sorted(held, now, best).slice(0, EXTREMES);
      return make("div", {}, make("h3", { text: title }),
        make("div", { class: "strip" }, ...some.map((number) => pair(number, now, metric))));
    };
    const whose = data.arms.length > 1 ? ` of ${data.arms[now.arm]}` : "";
    place.replaceChildren(
      strip(`Worst${whose} by ${metric.heading}`, false),
      strip(`Best${whose} by ${metric.heading}`, true));
  };
  const pair = (number, now, metric) => {
    const both = [pictureOf("source", number) ? "source" : "target", `arm${now.arm}`];
    const words = data.instructions[number];
    return make("button", { type: "button", class: "pair", title: words, "data-number": number,
      "data-kind": both[1] },
    make("span", { class: "two" }, ...both.filter((kind) => pictureOf(kind, number))
      .map((kind) => imageOf(kind, number, "", false))),
    make("span", { class: "what" }, make("span", { text: words || data.ids[number] }),
      make("b", { text: inDigits(scoreOf(now.arm, now.metric, number), metric) })));
  };

  // --- two pictures under a slider ---------------------------------------------------------------
  const dialog = byId("compare");
  const slide = (value) => {
    position = Math.min(100, Math.max(0, Number(value)));
    byId("slider").value = position;
    byId("stage-after").style.clipPath = `inset(0 0 0 ${position}%)`;
    byId("divider").style.left = `${position}%`;
  };
  const fitStage = () => {
    if (current < 0) return;
    const [width, height] = data.sizes[current];
    const room = byId("stage").parentElement.clientWidth;
    const tall = Math.max(240, window.innerHeight * 0.96 - 190);
    let scale = Math.min(room / width, tall / height, 12);
    // whole multiples keep the pixels of small pictures alike
    if (isSmall(current) && scale > 1) scale = Math.floor(scale);
    byId("stage").style.width = byId("stage").nextElementSibling.style.width = `${width * scale}px`;
    byId("stage").style.height = `${height * scale}px`;
  };
  const fill = (select, wanted) => {
    const options = shown.filter(([kind]) => pictureOf(kind, current));
    select.replaceChildren(...options.map(([kind, label]) =>
      make("option", { value: kind, text: label })));
    const held = options.some(([kind]) => kind === wanted);
    select.value = held ? wanted : options.length ? options[options.length - 1][0] : "";
  };
  const showSides = () => {
    for (const side of ["before", "after"]) {
      const kind = byId(side).value, image = byId(`stage-${side}`);
      const label = (shown.find(([one]) => one === kind) || ["", ""])[1];
      image.src = pictureOf(kind, current) || "data:,";
      image.alt = label;
      image.classList.toggle("sharp", isSmall(current));
      byId(side === "before" ? "left-name" : "right-name").textContent = label;
    }
    const masks = byId("stage-masks"), address = pictureOf("masks", current);
    masks.hidden = !byId("compare-masks").checked || !address;
    masks.classList.toggle("sharp", isSmall(current));
    if (address) masks.src = address;
  };
  const showValues = (table) => {
    const now = chosen();
    const head = make("tr", {}, make("th", { scope: "col", text: "Score" }),
      ...data.arms.map((label) => make("th", { scope: "col", text: label })));
    const lines = data.metrics.filter((metric) =>
      data.arms.some((_, place) => scoreOf(place, metric.key, current) !== null));
    table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...lines.map((metric) =>
      make("tr", { class: metric.key === now.metric ? "sorted" : null },
        make("th", { scope: "row", text: `${metric.heading} ${metric.up ? "↑" : "↓"}` }),
        ...data.arms.map((_, place) => make("td", {
          text: inDigits(scoreOf(place, metric.key, current), metric) || "none" }))))));
    table.hidden = !lines.length;
  };
  const showSample = (number, before, after) => {
    current = number;
    const at = order.indexOf(number);
    byId("compare-title").textContent = aboutOf(number)
      + (at < 0 ? "" : ` · ${grouped(at + 1)} of ${grouped(order.length)}`);
    byId("compare-back").disabled = at <= 0;
    byId("compare-next").disabled = at < 0 || at >= order.length - 1;
    fill(byId("before"), before);
    fill(byId("after"), after);
    dialog.querySelector(".instruction").textContent = data.instructions[number];
    dialog.querySelector(".texts").replaceChildren(...texts
      .filter((key) => data.texts[key][number])
      .flatMap((key) => [make("dt", { text: NAMES[key] }),
        make("dd", { text: data.texts[key][number] })]));
    showValues(dialog.querySelector(".values"));
    showSides();
    fitStage();
  };
  const open = (number, kind) => {
    const arm = `arm${chosen().arm}`;
    const after = !kind || kind === "source" || kind === "masks" ? arm : kind;
    const before = data.pictures.source ? "source" : "target";
    if (!dialog.open) dialog.showModal();
    showSample(number, before, after);
    slide(50);
    byId("slider").focus();
  };
  const step = (by) => {
    const next = order[order.indexOf(current) + by];
    if (next === undefined || order.indexOf(current) < 0) return;
    showSample(next, byId("before").value, byId("after").value);
  };
  const leave = () => {
    const at = order.indexOf(current);
    if (at >= 0 && Math.floor(at / AT_ONCE) !== page) {
      page = Math.floor(at / AT_ONCE);
      showPage();
    }
    document.querySelector(`#rows [data-number="${current}"] button`)?.focus();
  };
  const showMasks = (on) => {
    byId("masks").checked = byId("compare-masks").checked = on;
    byId("rows").classList.toggle("masked", on);
    if (dialog.open) showSides();
  };

  // --- sizes --------------------------------------------------------------------------------------
  const fitTiles = () => {
    if (!count) return;
    const room = byId("edits").clientWidth - 330; // what the texts leave
    const tiles = shown.length + (has.masks ? 1 : 0);
    const each = (room - 12 * (tiles - 1)) / tiles;
    const side = Math.max(...data.sizes[0]);
    const size = isSmall(0)
      ? side * Math.max(1, Math.min(Math.floor(256 / side), Math.floor(each / side), 4))
      : Math.max(128, Math.min(each, 224));
    const wide = Math.max(96, Math.floor(size));
    byId("rows").style.setProperty("--tile", `${wide}px`);
    const pictures = tiles * (wide + 12) - 12;
    byId("rows").style.setProperty("--pictures", `${pictures}px`);
    const rest = Math.floor(byId("edits").getBoundingClientRect().width) - 32 - pictures;
    byId("rows").style.setProperty("--texts", `${Math.max(240, Math.min(560, rest))}px`);
    const small = isSmall(0) ? side * Math.max(1, Math.floor(128 / side)) : 128;
    if (window.innerWidth > 860) byId("extremes").style.setProperty("--small", `${small}px`);
    else byId("extremes").style.removeProperty("--small");
  };

  // --- begin ---------------------------------------------------------------------------------------
  for (const [name, there] of Object.entries(has)) {
    if (there) continue;
    for (const element of document.querySelectorAll(`[data-of="${name}"]`)) {
      element.setAttribute("data-absent", "");
    }
  }
  const offer = (select, values, label = (value) => value) =>
    select.append(...values.map((value) => make("option", { value, text: label(value) })));
  const unique = (values) => [...new Set(values.filter(Boolean))].sort();
  offer(byId("type"), unique(data.types));
  offer(byId("group"), unique(data.groups));
  offer(byId("metric"), data.metrics.map((metric) => metric.key),
    (key) => `${metricOf(key).heading} ${metricOf(key).up ? "↑" : "↓"}`);
  offer(byId("arm"), data.arms.map((_, place) => String(place)), (place) => data.arms[place]);
  if (has.metrics) {
    byId("metric").value = FIRST.find((key) => metricOf(key)) || data.metrics[0].key;
  }
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("tools").addEventListener("input", (event) => {
    if (event.target.id === "masks") showMasks(event.target.checked);
    else choose();
  });
  byId("compare-masks").addEventListener("input", (event) => showMasks(event.target.checked));
  byId("back").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("edits").addEventListener("click", (event) => {
    const opener = event.target.closest("figure[data-kind], .pair, button.instruction");
    if (!opener || !opener.closest("[data-number]")) return;
    open(Number(opener.closest("[data-number]").dataset.number), opener.dataset.kind);
  });
  byId("slider").addEventListener("input", (event) => slide(event.target.value));
  byId("before").addEventListener("input", showSides);
  byId("after").addEventListener("input", showSides);
  byId("compare-back").addEventListener("click", () => step(-1));
  byId("compare-next").addEventListener("click", () => step(1));
  byId("compare-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", leave);
  window.addEventListener("resize", () => { fitTiles(); fitStage(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input[type=search], select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "m" && has.masks) showMasks(!byId("masks").checked);
    if (event.key === "/" && !dialog.open) { event.preventDefault(); byId("search").focus(); }
    const by = { j: 1, k: -1 }[event.key];
    if (!by) return;
    if (dialog.open) { step(by); return; }
    const buttons = [...document.querySelectorAll("#rows button.instruction")];
    const at = buttons.indexOf(document.activeElement) + by;
    const next = buttons[Math.max(0, Math.min(buttons.length - 1, at))];
    next?.focus({ preventScroll: true });
    next?.closest("li").scrollIntoView({ block: "center" });
  });
  fitTiles();
  choose();
})();
