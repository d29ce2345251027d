// OpenAI's own client for JavaScript.

import OpenAI from "openai";

import { Take, run, takes } from "./jobs.mjs";

const client = (job) => new OpenAI({ baseURL: `${job.url}/v1`, apiKey: job.key, maxRetries: 0 });
const said = (job, input) => ({ model: "tts-1", voice: job.voice, input });

async function speak(job) {
    const openai = client(job);
    const heard = [];
    for (const text of job.texts) {
        const format = job.format ? { response_format: job.format } : {};
        const take = new Take(job, job.format === "pcm" ? 24_000 : null);
        const answer = await openai.audio.speech.create({ ...said(job, text), ...format });
        take.add(Buffer.from(await answer.arrayBuffer()));
        heard.push(take);
    }
    return takes(heard);
}

async function stream(job) {
    const take = new Take(job, 24_000);
    const answer = await client(job).audio.speech.create({
        ...said(job, job.texts[0]),
        response_format: "pcm",
    });
    return takes([await take.read(answer.body)]);
}

async function events(job) {
    const take = new Take(job);
    const answer = await client(job).audio.speech.create({
        ...said(job, job.texts[0]),
        model: "gpt-4o-mini-tts",
        stream_format: "sse",
    });
    let text = "";
    let usage = null;
    const decoder = new TextDecoder();
    for await (const piece of answer.body) {
        const lines = (text + decoder.decode(piece, { stream: true })).split("\n");
        text = lines.pop();
        for (const line of lines) {
            if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
            const event = JSON.parse(line.slice(6));
            if (event.type === "speech.audio.delta") take.add(Buffer.from(event.audio, "base64"));
            if (event.type === "speech.audio.done") usage = event.usage;
        }
    }
    return takes([take], { usage });
}

async function lists(job) {
    const openai = client(job);
    const models = [];
    for await (const model of openai.models.list()) models.push(model.id);
    const { id } = await openai.models.retrieve("tts-1");
    return { models: [...models, id] };
}

await run({ speak, stream, events, lists });
