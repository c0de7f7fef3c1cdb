// What pages do beside showing: a run that goes on is shown as it stands, a log follows.
// Without it everything can be read all the same, by loading the page again.
"use strict";

(() => {
  const RENEW = 1000; // milliseconds between two looks, however much happens
  const ANEW = 5000; // milliseconds until what was refused is asked for again
  const LINES = 5000; // lines of a log that are held here; all of it is a link away

  // What changes while a run goes on is taken from the page as it would be loaded now.
  const live = document.querySelector("[data-events]");
  if (live) {
    let source;
    let busy = false;
    let again = false;
    let over = false;
    const renew = async () => {
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        const answer = await fetch(location.href);
        if (answer.ok) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const focus = document.activeElement && document.activeElement.id;
          for (const part of document.querySelectorAll("[data-live]")) {
            const now = page.getElementById(part.id);
            if (now && now.innerHTML !== part.innerHTML) part.replaceChildren(...now.childNodes);
          }
          if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
          if (!page.querySelector("[data-events]")) {
            over = true;
            source.close();
          }
        }
      } catch {
        // The next change, or the reader, tries again.
      }
      setTimeout(() => {
        busy = false;
        if (again) {
          again = false;
          renew();
        }
      }, RENEW);
    };
    // A browser gives up on what was refused once: a server that had no room has some later.
    const follow = () => {
      source = new EventSource(live.dataset.events);
      source.addEventListener("change", renew);
      source.addEventListener("error", () => {
        if (over || source.readyState !== EventSource.CLOSED) return;
        setTimeout(() => {
          if (over) return;
          renew();
          follow();
        }, ANEW);
      });
    };
    follow();
  }

  const log = document.querySelector("[data-log]");
  if (log) {
    const says = document.getElementById("log-state");
    const held = [];
    const add = (text) => {
      const down = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      const node = document.createTextNode(text);
      held.push([node, (text.match(/\n/g) || []).length]);
      log.append(node);
      let lines = held.reduce((all, [, count]) => all + count, 0);
      while (lines > LINES && held.length > 1) {
        const [old, count] = held.shift();
        old.remove();
        lines -= count;
      }
      if (down) log.scrollTop = log.scrollHeight;
    };
    const read = async () => {
      const answer = await fetch(log.dataset.log);
      if (!answer.ok) throw new Error();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      says.textContent = "Following.";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        add(value);
      }
      says.textContent = log.textContent ? "That is all of it." : "It wrote nothing.";
    };
    read().catch(() => {
      says.textContent = "The connection broke off. Load the page again to follow on.";
    });
  }
})();
