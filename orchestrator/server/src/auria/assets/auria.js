// Lets a work come to be before the visitor's eyes: the poem line by line, the painting through
// its stages, the colour last. Without it the page shows what is there, and looks again.
"use strict";

(() => {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const LINE = calm ? 0 : 1500; // between two lines
  const ANEW = 5000; // milliseconds until what was refused is asked for again
  const LOOK = calm ? 0 : 4200; // for which a stage is looked at before the next
  const pause = (millis) => new Promise((done) => setTimeout(done, millis));

  const canvas = document.querySelector("[data-canvas]");
  const poem = document.querySelector("[data-poem]");
  const says = document.querySelector("[data-says]");
  const after = document.querySelector("[data-after]");

  // What is to be shown is shown in its order, each in its own time.
  let last = Promise.resolve();
  const then = (what) => {
    last = last.then(what, what);
    return last;
  };

  const say = (text) => {
    if (says && says.textContent !== text) says.textContent = text;
  };

  const write = async (lines) => {
    const box = document.createElement("div");
    box.className = "poem";
    poem.replaceChildren(box);
    for (const line of lines) {
      const p = document.createElement("p");
      p.textContent = line;
      p.className = "new";
      box.append(p);
      await pause(40);
      p.classList.add("now");
      await pause(LINE);
    }
  };

  const show = async (name) => {
    const picture = canvas.querySelector("." + name);
    if (!picture || picture.classList.contains("now")) return;
    if (!picture.src) picture.src = picture.dataset.src;
    try {
      await picture.decode();
    } catch {
      return;
    }
    picture.hidden = false;
    await pause(40);
    picture.classList.add("now");
    await pause(LOOK);
  };

  const work = document.querySelector("[data-work]");
  if (work) {
    let source;
    let written = false;
    let painted = false;
    const waits = (ahead) =>
      ahead === 0 ? "You are next" : ahead === 1 ? "One is before you" : `${ahead} are before you`;
    const look = (event) => {
      const seen = JSON.parse(event.data);
      if (seen.stage === "waiting") then(() => say(waits(seen.ahead)));
      if (seen.stage === "writing") then(() => say("She is writing"));
      if (seen.poem.length && !written) {
        written = true;
        then(() => say(""));
        then(() => write(seen.poem));
        then(() => say("She is painting what she wrote"));
      }
      if ((seen.stage === "colouring" || seen.stage === "done") && !painted) {
        painted = true;
        then(() => show("sketch"));
        then(() => show("painting"));
        then(() => say("She is giving it its colours"));
      }
      if (seen.stage === "done") {
        source.close();
        then(() => {
          canvas.querySelector(".picture").alt = "A painting of the poem";
        });
        then(() => show("picture"));
        then(() => {
          say("");
          after.hidden = false;
          work.removeAttribute("data-work");
        });
      }
      if (seen.stage === "failed") {
        source.close();
        then(() => say("Something went wrong. Ask her for another"));
      }
    };
    // A browser gives up on what was refused once: a server that had no room has some later.
    const follow = () => {
      source = new EventSource(work.dataset.work + "/events");
      source.addEventListener("seen", look);
      source.addEventListener("error", () => {
        if (source.readyState === EventSource.CLOSED) setTimeout(follow, ANEW);
      });
    };
    follow();
  }

  const told = document.querySelector("[data-shared]");
  for (const button of document.querySelectorAll("[data-share]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const address = new URL(button.dataset.share, location.href).href;
      try {
        if (navigator.share) {
          await navigator.share({ title: document.title, url: address });
          return;
        }
        await navigator.clipboard.writeText(address);
        told.textContent = "Its address is copied.";
      } catch {
        told.textContent = address;
      }
    });
  }

  for (const button of document.querySelectorAll("[data-again]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const lines = [...poem.querySelectorAll("p")].map((p) => p.textContent);
      canvas.classList.remove("still");
      for (const picture of canvas.querySelectorAll("img")) picture.classList.remove("now");
      button.disabled = true;
      await write(lines);
      for (const name of ["sketch", "painting", "picture"]) await show(name);
      button.disabled = false;
    });
  }
})();
