// The list as the server has it: its newest page, those before it as they are asked for, and all of it kept true.
//
// Whenever something changed, the newest page is read again and taken over. So it is right under every filter, and
// whoever changed it; an erased face or one that came late makes all pages be read again.

import { page } from "./entries.js";

const PAGE = 60;
const MOST = 500;
const SOON = 250;
const AGAIN = 2500;
const REST = 1000;
const REGULARLY = 15000;

export class Timeline {
  // onDrawn({ fresh, waiting }) after each look at the server; onTrouble(error) when it does not answer.
  constructor(list, onDrawn, onTrouble) {
    Object.assign(this, { list, onDrawn, onTrouble, persons: false, filter: {}, next: null, ended: false });
    Object.assign(this, { begun: 0, looking: 0, paused: false, whole: false, missed: false, wanted: false });
    Object.assign(this, { rest: REST, looked: 0 });
    document.addEventListener("visibilitychange", () => document.hidden || this.nudge());
  }

  // Begin anew, with other entries or another filter.
  async open(persons, filter) {
    Object.assign(this, { persons, filter, next: null, ended: false });
    this.begun += 1;
    this.list.clear();
    await this.look();
  }

  // Something changed: look soon, and once more, since faces are grouped a moment after they came.
  nudge(whole = false) {
    this.whole ||= whole;
    const wait = Math.max(SOON, this.looked + this.rest - Date.now());
    this.soon ??= setTimeout(() => this.look(), wait);
    clearTimeout(this.again);
    this.again = setTimeout(() => this.look(), wait + AGAIN);
  }

  // True for a face that is older than the newest page, which does not show it.
  isOld = (at) => this.list.size > PAGE && at < this.list.entry(this.list.order[PAGE - 1]).at;

  // Read the newest page; what is new is let in unless the list is paused, or if it is wanted all the same.
  async look(wanted = false) {
    for (const timer of [this.soon, this.regularly]) clearTimeout(timer);
    this.soon = null;
    const { begun, whole } = this;
    if (this.looking === begun) {
      this.missed = true;
      this.wanted ||= wanted;
      return;
    }
    const since = Date.now();
    this.looking = begun;
    this.whole = this.missed = this.wanted = false;
    try {
      const found = await this.read(whole ? Math.max(PAGE, this.list.size) : PAGE);
      if (begun === this.begun) this.take(found, wanted || !this.paused);
    } catch (error) {
      if (begun === this.begun && error.status !== 401) this.onTrouble(error);
    }
    this.looked = Date.now();
    this.rest = Math.max(REST, 10 * (this.looked - since));
    if (begun !== this.begun) return;
    this.looking = 0;
    clearTimeout(this.regularly);
    this.regularly = setTimeout(() => document.hidden || this.look(), REGULARLY);
    if (this.wanted) this.look(true);
    else if (this.missed) this.nudge();
  }

  // So many of the newest entries, and the cursor behind them.
  async read(size) {
    const found = { entries: [], next: null };
    do {
      const wanted = Math.min(MOST, size - found.entries.length);
      const { entries, next } = await page(this.persons, this.filter, wanted, found.next);
      found.entries.push(...entries);
      found.next = next;
    } while (found.next && found.entries.length < size);
    return found;
  }

  take({ entries, next }, fresh) {
    const known = this.list.size;
    // More came than a page holds: what was shown does not follow on it any more.
    const isGap = fresh && known && next && entries.at(-1).at > this.list.entry(this.list.order[0]).at;
    const added = this.list.merge(entries, !next || isGap, fresh);
    if (!next || isGap || entries.length >= known) this.next = next;
    this.ended = this.next === null;
    this.onDrawn({ fresh: fresh && known ? added : [], waiting: fresh ? 0 : added.length });
  }

  // The page before the last one shown; true if there was one.
  async more() {
    if (this.asking === this.begun || this.ended || !this.next) return false;
    const { begun } = this;
    this.asking = begun;
    try {
      const { entries, next } = await page(this.persons, this.filter, PAGE, this.next);
      if (begun !== this.begun) return false;
      this.list.append(entries);
      this.next = next;
      this.ended = next === null;
      this.onDrawn({ fresh: [] });
      return entries.length > 0;
    } catch (error) {
      if (begun === this.begun && error.status !== 401) this.onTrouble(error);
      return false;
    } finally {
      if (this.asking === begun) this.asking = 0;
    }
  }
}
