// The requests of SillyTavern's server, with the provider "Fish Audio".

import fetch from "node-fetch";

import { Take, run, takes } from "./jobs.mjs";

const agent = { "User-Agent": "SillyTavern:1.13 (SillyTavern Fish Audio TTS)" };

async function failed(answer) {
    const told = JSON.parse(await answer.text());
    throw new Error(`${answer.status} ${told.message ?? told.error ?? told.detail}`);
}

async function speech(job, text) {
    const take = new Take(job);
    const answer = await fetch(new URL("/v1/tts", job.url), {
        method: "POST",
        headers: {
            Authorization: `Bearer ${job.key}`,
            "Content-Type": "application/json",
            model: "s2.1-pro",
            ...agent,
        },
        body: JSON.stringify({
            text,
            reference_id: job.voice,
            format: "mp3",
            latency: "balanced",
            temperature: 0.7,
            top_p: 0.7,
            prosody: { speed: 1 },
        }),
    });
    if (!answer.ok) await failed(answer);
    const type = answer.headers.get("content-type").split(";")[0];
    if (type !== "audio/mpeg") throw new Error(`${type} is refused`);
    return take.read(answer.body);
}

async function speak(job) {
    const heard = [];
    for (const text of job.texts) heard.push(await speech(job, text));
    return takes(heard);
}

async function lists(job) {
    const url = new URL("/model", job.url);
    url.search = new URLSearchParams({ self: "true", page_size: "100", page_number: "1" });
    const answer = await fetch(url, { headers: { Authorization: `Bearer ${job.key}`, ...agent } });
    if (!answer.ok) await failed(answer);
    const { items } = await answer.json();
    const usable = items.filter(
        (item) => item.type === "tts" && item.state === "trained" && /^[\w.-]+$/.test(item._id),
    );
    return { voices: usable.map((item) => item.title) };
}

await run({ speak, lists });
