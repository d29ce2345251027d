// The requests of SillyTavern's server, with the provider "OpenAI compatible".

import fetch from "node-fetch";

import { Take, run, takes } from "./jobs.mjs";

async function speak(job) {
    const heard = [];
    for (const input of job.texts) {
        const take = new Take(job);
        const answer = await fetch(`${job.url}/v1/audio/speech`, {
            method: "POST",
            headers: { "Content-Type": "application/json", Authorization: `Bearer ${job.key}` },
            body: JSON.stringify({
                input,
                response_format: "mp3",
                voice: job.voice,
                speed: 1,
                model: "tts-1",
            }),
        });
        if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
        take.add(Buffer.from(await answer.arrayBuffer()));
        heard.push(take);
    }
    return takes(heard);
}

await run({ speak });
