"use strict";
(() => {
  const data = JSON.parse(document.getElementById("study").textContent);
  const SMALL = 160; // pixels: up to this a picture is enlarged without smoothing
  const KEYS = { a: "a", 1: "a", b: "b", 2: "b", n: "none", 0: "none" };
  const CHOICES = ["a", "b", "none"];
  const count = data.pairs.length;
  const place = `ric-study-${data.study}`; // where the browser keeps answers until they are saved
  const byId = (id) => document.getElementById(id);
  const newVoter = () => [...crypto.getRandomValues(new Uint8Array(8))]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const begin = () => ({ voter: newVoter(), answers: Array(count).fill(null) });
  let now = begin();
  let at = 0; // the pair that is shown; `count` is the end

  // --- kept by the browser, where it keeps anything for a page from the disk -----------------------
  const keep = () => {
    try { localStorage.setItem(place, JSON.stringify(now)); } catch { /* it lasts as the page does */ }
  };
  const recall = () => {
    try {
      const kept = JSON.parse(localStorage.getItem(place));
      const whole = kept && /^[0-9a-f]{16}$/.test(kept.voter) && kept.answers.length === count
        && kept.answers.every((one) => one === null || CHOICES.includes(one));
      if (whole) now = { voter: kept.voter, answers: kept.answers };
    } catch { /* nothing is kept here */ }
  };

  // --- a pair ----------------------------------------------------------------------------------------
  const answered = () => now.answers.filter((one) => one !== null).length;
  const fit = () => {
    if (at === count) return;
    const [width, height] = data.pairs[at].size;
    const phone = window.innerWidth <= 700;
    const room = byId("a").parentElement.clientWidth; // the source is as large, wherever it stands
    for (const id of ["source", "a", "b"]) {
      const image = byId(id);
      const tall = Math.max(120, window.innerHeight * (phone ? 0.3 : 0.55));
      let scale = Math.min(room / width, tall / height);
      const small = Math.max(width, height) <= SMALL;
      // whole multiples keep the pixels of small pictures alike; others are not enlarged
      if (scale > 1) scale = small ? Math.floor(scale) : 1;
      image.classList.toggle("sharp", small);
      image.style.width = `${width * scale}px`;
      image.style.height = `${height * scale}px`;
    }
  };
  const show = () => {
    const ended = at === count;
    byId("pair").hidden = ended;
    byId("end").hidden = !ended;
    byId("back").disabled = at === 0;
    byId("on").disabled = ended;
    byId("save").disabled = answered() === 0;
    byId("save").classList.toggle("ready", answered() === count);
    byId("done").max = count;
    byId("done").value = answered();
    byId("place").textContent = (ended ? "" : `Pair ${at + 1} of ${count} · `)
      + `${answered()} of ${count} answered`;
    if (ended) { showEnd(); return; }
    const pair = data.pairs[at];
    byId("instruction").textContent = pair.instruction;
    for (const id of ["source", "a", "b"]) byId(id).src = pair[id];
    for (const button of document.querySelectorAll("[data-choice]")) {
      button.setAttribute("aria-pressed", String(now.answers[at] === button.dataset.choice));
    }
    fit();
  };
  const showEnd = () => {
    const open = count - answered();
    byId("end-title").textContent = open ? "The end, with pairs left open" : "Thank you, that is all";
    byId("left").textContent = open
      ? `${open} of ${count} pairs have no answer: go back to them, or leave them open.` : "";
    byId("saved").textContent = "";
    byId("text").value = inJson();
    byId("end-title").focus();
  };
  const go = (to) => {
    at = Math.max(0, Math.min(count, to));
    show();
  };
  const choose = (choice) => {
    if (at === count) return;
    now.answers[at] = choice;
    keep();
    go(at + 1);
  };

  // --- answers as a file -----------------------------------------------------------------------------
  const inJson = () => `${JSON.stringify({
    study: data.study, voter: now.voter, saved: new Date().toISOString(), answers: now.answers,
  }, null, 1)}\n`;
  const save = () => {
    const name = `answers-${data.study.slice(0, 8)}-${now.voter.slice(0, 8)}.json`;
    const address = URL.createObjectURL(new Blob([inJson()], { type: "application/json" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    go(count);
    byId("saved").textContent = `Saved as ${name}, with ${answered()} of ${count} answers.`;
  };

  // --- begin -------------------------------------------------------------------------------------------
  recall();
  const open = now.answers.indexOf(null);
  at = open < 0 ? count : open;
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => choose(button.dataset.choice));
  }
  byId("back").addEventListener("click", () => go(at - 1));
  byId("on").addEventListener("click", () => go(at + 1));
  byId("save").addEventListener("click", save);
  byId("anew").addEventListener("click", () => { now = begin(); keep(); go(0); });
  window.addEventListener("resize", fit);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.id === "text") return;
    const choice = KEYS[event.key?.toLowerCase()];
    // a key that is held down answers one pair
    if (choice && !event.repeat) choose(choice);
    if (event.key === "ArrowLeft") go(at - 1);
    if (event.key === "ArrowRight") go(at + 1);
  });
  show();
})();
