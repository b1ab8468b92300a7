"use strict";

// Times and money as the command line tells them: the rules of penstock/amounts.py and penstock/words.py, held by a test
// that asks both. Here because what is left of a run moves with the reader's clock. Uses nothing of the page.
const UNITS = [[86400, "days"], [3600, "h"], [60, "min"]];
const ENOUGH = 1.5;
const LEAST_SECONDS = 0.01;

const unitOf = (seconds) => UNITS.find(([size]) => seconds >= size * ENOUGH) || [1, "s"];

// Two digits that count, halves up; small parts of a unit to a hundredth of it.
function rounded(value) {
  return Number(value < 1 ? value.toFixed(2) : value.toPrecision(2)).toLocaleString("en");
}

function timeText(seconds) {
  if (seconds > 0 && seconds < LEAST_SECONDS) return `less than ${LEAST_SECONDS} s`;
  const [size, unit] = unitOf(seconds);
  return `${rounded(seconds / size)} ${unit}`;
}

function timeRange(low, high) {
  if (high > 0 && high < LEAST_SECONDS) return timeText(high);
  const [size, unit] = unitOf(high);
  const [least, most] = [rounded(low / size), rounded(high / size)];
  if (least !== most) return `${least} to ${most} ${unit}`;
  return high ? `about ${most} ${unit}` : `${most} ${unit}`;
}

// To the last micro: what was spent or capped is not rounded.
function dollars(micros) {
  const amount = Math.abs(micros) / 1e6;
  const text = amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 6 });
  return `${micros < 0 ? "-" : ""}$${text}`;
}
