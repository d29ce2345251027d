// The community's client of Fish Audio for JavaScript.

import sdk from "fish-audio-sdk";

import { Take, run, takes, words } from "./jobs.mjs";

const { Session, TTSRequest, WebSocketSession } = sdk;
const options = (job) => (job.voice ? { referenceId: job.voice } : {});

async function speak(job) {
    const session = new Session(job.key, job.url);
    const heard = [];
    for (const text of job.texts) {
        const request = new TTSRequest(text, options(job));
        heard.push(await new Take(job).read(session.tts(request)));
    }
    session.close();
    return takes(heard);
}

async function live(job) {
    const session = new WebSocketSession(job.key, job.url.replace("http", "ws"));
    async function* written() {
        yield* words(job.texts[0]);
    }
    const request = new TTSRequest("", options(job));
    return takes([await new Take(job).read(session.tts(request, written()))]);
}

async function lists(job) {
    const session = new Session(job.key, job.url);
    const { items } = await session.listModels({ self: true, pageSize: 20 });
    const { title } = await session.getModel(items[0].id);
    const { credit } = await session.getApiCredit();
    session.close();
    return { voices: [...items.map((item) => item.title), title], credit };
}

async function own_voice(job) {
    const session = new Session(job.key, job.url);
    const sample = new Take(job);
    await sample.read(session.tts(new TTSRequest(job.texts[0], { format: "wav" })));
    const voices = [Buffer.concat(sample.pieces)];
    const made = await session.createModel({ title: job.title, voices });
    const spoken = await speak({ ...job, voice: made.id });
    await session.deleteModel(made.id);
    session.close();
    return { ...spoken, state: made.state };
}

await run({ speak, live, lists, own_voice });
