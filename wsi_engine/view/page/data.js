// Reading what the view holds: JSON, and numbers as they lie in files (little-endian).

async function file(name) {
  const answer = await fetch(`data/${name}`, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${name}: ${(await answer.text()) || answer.status}`);
  return answer;
}

export const json = async (name) => (await file(name)).json();

export const bytes = async (name) => (await file(name)).arrayBuffer();

/** Runs jobs 0 to count - 1, some at a time, and tells after each how many of the first are done. */
export async function inOrder(count, job, told, atATime = 6) {
  const done = new Array(count).fill(false);
  let next = 0;
  let whole = 0;
  const worker = async () => {
    while (next < count) {
      const k = next++;
      await job(k);
      done[k] = true;
      const before = whole;
      while (done[whole]) whole++;
      if (whole > before) told(whole);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atATime, count) }, worker));
}
