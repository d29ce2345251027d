// The requests of SillyTavern's page itself, with the provider "TTS WebUI": a browser sends them
// from another origin, so it asks beforehand, and no key can be set.

import fetch from "node-fetch";

import { Take, run, takes } from "./jobs.mjs";

const WAV_HEADER_BYTES = 44;

const body = (job, input, stream) =>
    JSON.stringify({
        model: "chatterbox",
        voice: job.voice,
        input,
        response_format: "wav",
        speed: 1,
        stream,
        params: { desired_length: 80, chunked: true, temperature: 0.8, seed: -1, device: "auto" },
    });

function ask(job, input, stream) {
    const headers = { "Content-Type": "application/json", Origin: job.origin };
    if (stream) headers["Cache-Control"] = "no-cache";
    return fetch(`${job.url}/v1/audio/speech`, {
        method: "POST",
        headers,
        body: body(job, input, stream),
    });
}

// What the browser asks before it lets the page send the above.
async function preflight(job) {
    const answer = await fetch(`${job.url}/v1/audio/speech`, {
        method: "OPTIONS",
        headers: {
            Origin: job.origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "cache-control,content-type",
            "Access-Control-Request-Private-Network": "true",
        },
    });
    return {
        status: answer.status,
        origin: answer.headers.get("access-control-allow-origin"),
        headers: answer.headers.get("access-control-allow-headers"),
        network: answer.headers.get("access-control-allow-private-network"),
    };
}

async function speak(job) {
    const heard = [];
    for (const text of job.texts) {
        const take = new Take(job);
        const answer = await ask(job, text, false);
        if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
        take.add(Buffer.from(await answer.arrayBuffer()));
        heard.push(take);
    }
    return takes(heard);
}

// The page reads the rate out of the header and takes all that follows for samples.
async function stream(job) {
    const take = new Take(job);
    const answer = await ask(job, job.texts[0], true);
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    let header = Buffer.alloc(0);
    for await (const piece of answer.body) {
        if (header.length >= WAV_HEADER_BYTES) {
            take.add(piece);
            continue;
        }
        header = Buffer.concat([header, piece]);
        if (header.length < WAV_HEADER_BYTES) continue;
        take.rate_hz = header.readUInt32LE(24);
        take.add(header.subarray(WAV_HEADER_BYTES));
    }
    return takes([take]);
}

await run({ preflight, speak, stream });
