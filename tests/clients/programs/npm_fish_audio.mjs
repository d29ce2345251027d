// Fish Audio's own client for JavaScript.

import { FishAudioClient, RealtimeEvents } from "fish-audio";

import { Take, run, takes, words } from "./jobs.mjs";

const client = (job) => new FishAudioClient({ apiKey: job.key, baseUrl: job.url });
const once = { maxRetries: 0 };

function said(job, text) {
    return { text, ...(job.voice && { reference_id: job.voice }), ...(job.format && { format: job.format }) };
}

async function speak(job) {
    const fish = client(job);
    const heard = [];
    for (const text of job.texts) {
        const take = new Take(job, job.format === "pcm" ? 44_100 : null);
        heard.push(await take.read(await fish.textToSpeech.convert(said(job, text), "s1", once)));
    }
    return takes(heard);
}

// One connection a turn: it resolves when the client says that it is closed.
function turn(job, text) {
    const take = new Take(job);
    async function* written() {
        yield* words(text);
    }
    return new Promise((resolve, reject) => {
        client(job)
            .textToSpeech.convertRealtime(said(job, ""), written())
            .then((connection) => {
                connection.on(RealtimeEvents.AUDIO_CHUNK, (piece) => take.add(piece));
                connection.on(RealtimeEvents.ERROR, reject);
                connection.on(RealtimeEvents.CLOSE, () => resolve(take));
            }, reject);
    });
}

async function live(job) {
    const heard = [];
    for (const text of job.texts) heard.push(await turn(job, text));
    return takes(heard);
}

async function lists(job) {
    const { items } = await client(job).voices.search({ self: true }, once);
    const { title } = await client(job).voices.get(items[0]._id, once);
    return { voices: [...items.map((item) => item.title), title] };
}

// A voice is made of a recording, speaks, and is deleted.
async function own_voice(job) {
    const fish = client(job);
    const [text] = job.texts;
    const sample = new Take(job);
    await sample.read(await fish.textToSpeech.convert({ text, format: "wav" }, "s1", once));
    const recording = new File([Buffer.concat(sample.pieces)], "sample.wav", { type: "audio/wav" });
    const made = await fish.voices.ivc.create({ title: job.title, voices: [recording] }, once);
    const spoken = await speak({ ...job, voice: made._id });
    await fish.voices.delete(made._id, once);
    return { ...spoken, state: made.state };
}

await run({ speak, live, lists, own_voice });
