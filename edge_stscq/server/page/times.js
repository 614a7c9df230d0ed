// Times as people say them: how long ago, at what o'clock, on which day.

export function ago(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 45) return "just now";
  const [many, unit] = seconds < 5400 ? [seconds / 60, "min"] : seconds < 129600 ? [seconds / 3600, "h"]
    : [seconds / 86400, Math.round(seconds / 86400) === 1 ? "day" : "days"];
  return `${Math.max(1, Math.round(many))} ${unit} ago`;
}

export const clockOf = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

export const dateOf = (time) => new Date(time).toLocaleDateString([], { day: "numeric", month: "long", year: "numeric" });

export const fullTime = (time) =>
  new Date(time).toLocaleString([], { weekday: "long", day: "numeric", month: "long", year: "numeric", hour: "2-digit",
    minute: "2-digit", second: "2-digit" });

// "2026-03-09": the day of a time here, as fields of dates have it; such names are in the order of the days.
export function dayOf(time) {
  const date = new Date(time);
  const two = (number) => String(number).padStart(2, "0");
  return `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

// When a day begins here, or the one `later` days after it.
export function beginOf(day, later = 0) {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date + later);
}

export function dayTitle(day) {
  const now = dayOf(Date.now());
  if (day === now) return "Today";
  if (dayOf(beginOf(now, -1)) === day) return "Yesterday";
  const options = { weekday: "long", day: "numeric", month: "long" };
  if (day.slice(0, 4) !== now.slice(0, 4)) options.year = "numeric";
  return beginOf(day).toLocaleDateString([], options);
}
